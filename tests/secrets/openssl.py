"""OpenSSL's own command as a judge of certificates."""

import subprocess
from datetime import datetime
from pathlib import Path


def verified(folder: Path, roots: bytes, chain: bytes, at: datetime, *options: str) -> str:
    """OK, or what `openssl verify` complains of. `chain` is a certificate and what goes behind it (PEM)."""
    (folder / "roots.pem").write_bytes(roots)
    (folder / "chain.pem").write_bytes(chain)
    (folder / "node.pem").write_bytes(chain[: chain.index(b"-----END CERTIFICATE-----") + 26])
    files = ["-CAfile", folder / "roots.pem", "-untrusted", folder / "chain.pem"]
    when = ["-attime", str(int(at.timestamp()))]
    command = ["openssl", "verify", "-x509_strict", *files, *when, *options, folder / "node.pem"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "OK" if done.returncode == 0 else done.stdout + done.stderr
