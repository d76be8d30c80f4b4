"""Frame formats, sans-IO: bytes in, values out. Nothing in here waits, opens or sends."""
