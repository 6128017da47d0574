"""Who listens where: sockets of a process and of all that it started, out of /proc."""

import socket
from pathlib import Path


def descendants(pid):
    """A process and all below it."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


def _inodes(pid):
    """Inodes of the sockets that a process holds."""
    for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            yield target[8:-1]


def _address(text):
    """An address as the kernel writes it: 32-bit words of the machine's own byte order."""
    raw = bytes.fromhex(text)
    words = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, words)


def listening(pid):
    """Addresses, ports and commands of every TCP socket that this process tree listens on."""
    owners = {}
    for one in descendants(pid):
        try:
            command = Path(f"/proc/{one}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            owners |= dict.fromkeys(_inodes(one), command[:120])
        except OSError:
            continue
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in owners:
                address, port = fields[1].split(":")
                found.append((_address(address), int(port, 16), owners[fields[9]]))
    return found


def beyond_loopback(pid):
    """Those of them that another machine may reach."""
    near = ("127.", "::1", "::ffff:127.")
    return [one for one in listening(pid) if not one[0].startswith(near)]
