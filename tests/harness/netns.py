"""A second host on this machine: a network namespace behind a pair of virtual cards."""

import contextlib
import os
import pathlib
import re
import shutil
import subprocess


def ip(*words, check=True):
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=check)


def why_not():
    """Why there can be no namespaces here, or None."""
    if os.geteuid() != 0:
        return "network namespaces take root"
    name = f"pkt{os.getpid()}"
    try:
        if ip("netns", "add", name, check=False).returncode != 0:
            return "the kernel gives us no network namespace"
    except FileNotFoundError:
        return "there is no ip(8)"
    linked = ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", check=False).returncode == 0
    if linked:
        ip("link", "del", f"{name}a")
    ip("netns", "del", name)
    return None if linked else "the kernel has no virtual network cards"


def why_no_loss():
    """Why no packets can be lost here, or None."""
    return why_not() or (None if shutil.which("nft") else "there is no nft(8) to drop packets at random")


class Host:
    """near is our address on the link, far the one inside; prefix is what a command line starts with to run inside."""

    def __init__(self):
        number = os.getpid() % 60000
        self.name = f"pk{number}"
        net = f"10.{200 + number // 16384}.{number // 64 % 256}.{number % 64 * 4}".rsplit(".", 1)
        self.near, self.far = f"{net[0]}.{int(net[1]) + 1}", f"{net[0]}.{int(net[1]) + 2}"
        self.prefix = ["ip", "netns", "exec", self.name]
        self._card = f"{self.name}a"

    def start(self):
        ip("netns", "add", self.name)
        ip("link", "add", self._card, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("addr", "add", f"{self.near}/30", "dev", self._card)
        ip("link", "set", self._card, "up")
        for words in (("addr", "add", f"{self.far}/30", "dev", "eth0"), ("link", "set", "eth0", "up"),
                      ("link", "set", "lo", "up")):
            ip("-n", self.name, *words)
        return self

    def cut(self):
        """Nothing goes through any more, and nobody is told."""
        ip("link", "set", self._card, "down")

    def mend(self):
        ip("link", "set", self._card, "up")

    def lose(self, percent):
        """Of the packets that come to the other host, and of those it sends, each is dropped with this probability."""
        rules = "table inet loss\ndelete table inet loss\n"
        if percent:
            chains = "".join(f"chain {hook} {{ type filter hook {hook} priority 0; "
                             f"numgen random mod 100 < {percent} counter drop; }}\n" for hook in ("input", "output"))
            rules += f"table inet loss {{\n{chains}}}\n"
        subprocess.run([*self.prefix, "nft", "-f", "-"], input=rules, text=True, check=True)

    def lost(self):
        """How many packets were dropped since the last change of lose."""
        text = subprocess.run([*self.prefix, "nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
        return sum(int(count) for count in re.findall(r"packets (\d+)", text))

    @contextlib.contextmanager
    def names_from(self, address):
        """Programs started inside meanwhile ask this name server."""
        folder = pathlib.Path("/etc/netns") / self.name
        folder.mkdir(parents=True)
        (folder / "resolv.conf").write_text(f"nameserver {address}\noptions timeout:2 attempts:2\n")
        try:
            yield
        finally:
            shutil.rmtree(folder)

    def close(self):
        ip("link", "del", self._card, check=False)
        ip("netns", "del", self.name, check=False)


@contextlib.contextmanager
def host():
    other = Host()
    try:
        yield other.start()
    finally:
        other.close()
