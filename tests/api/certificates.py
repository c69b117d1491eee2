"""Certificates for tests of the API over TLS."""

from pathlib import Path

import trustme


class Certificates:
    """A root, and certificates of a server and a client in files."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.ca, self.server, self.server_key = folder / "ca.pem", folder / "server.pem", folder / "server-key.pem"
        self.client, self.client_key = folder / "cert.pem", folder / "key.pem"
        authority.cert_pem.write_to_path(self.ca)
        for name, certificate, key in (
            ("127.0.0.1", self.server, self.server_key),
            ("client.test", self.client, self.client_key),
        ):
            made = authority.issue_cert(name)
            made.cert_chain_pems[0].write_to_path(certificate)
            made.private_key_pem.write_to_path(key)

    def docker_flags(self) -> list[str]:
        """What makes the stock client use them."""
        return [
            "--tlsverify",
            "--tlscacert",
            str(self.ca),
            "--tlscert",
            str(self.client),
            "--tlskey",
            str(self.client_key),
        ]
