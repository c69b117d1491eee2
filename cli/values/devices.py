"""Devices of containers: `--device` and `--gpus`.

Pure: text to the Engine's structs. What cannot be read raises ValueError with a message for the user.
"""

import re

from essaim.cluster.engine_options import DeviceMapping, DeviceRequest

from .pairs import fields


def parse_device(text: str) -> DeviceMapping:
    """`/dev/x`, `/dev/x:/dev/y`, `/dev/x:/dev/y:rwm` or `/dev/x:rwm`."""
    parts = text.split(":")
    rights = parts.pop() if len(parts) > 1 and is_rights(parts[-1]) else "rwm"
    if not 1 <= len(parts) <= 2 or not all(parts):
        raise ValueError(f"bad device specification {text}: expected HOST[:CONTAINER][:rwm]")
    return DeviceMapping(path_on_host=parts[0], path_in_container=parts[-1], cgroup_permissions=rights)


def is_rights(text: str) -> bool:
    return bool(re.fullmatch(r"[rwm]{1,3}", text)) and len(set(text)) == len(text)


def parse_gpus(text: str) -> DeviceRequest:
    """`all`, a number, or `device=0,driver=nvidia,capabilities=compute` (quote lists)."""
    count: int | None = None
    driver, devices, capabilities = None, None, ["gpu"]
    for item in fields(text):
        key, separator, value = item.partition("=")
        if not separator:
            key, value = "count", item
        match key:
            case "count":
                count = -1 if value == "all" else number(value)
            case "device":
                devices = value.split(",")
            case "driver":
                driver = value
            case "capabilities":
                capabilities = ["gpu", *(name for name in value.split(",") if name != "gpu")]
            case _:
                raise ValueError(f"unexpected key '{key}' in '{item}': expected count, device, driver or capabilities")
    if count is None and devices is None:
        count = 1
    return DeviceRequest(count=count, device_ids=devices, driver=driver, capabilities=[capabilities])


def number(text: str) -> int:
    if not re.fullmatch(r"\d+", text, re.ASCII):
        raise ValueError(f"count must be an integer or all: {text}")
    return int(text)
