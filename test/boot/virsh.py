"""test/boot/virsh.py - libvirt's Xen driver in dom0, for the tests that drive guests through it."""

import re

# Without keepalive: where processors are emulated and the host is busy, libvirtd is silent for longer than that waits.
VIRSH = "virsh -k 0 -c xen:///system"

# The small guest that the README starts, in libvirt's words.
SMALL = """<domain type='xen'>
<name>v</name><memory unit='MiB'>96</memory><vcpu>2</vcpu>
<os><type arch='x86_64' machine='xenpv'>linux</type><kernel>/etc/xen/guest/vmlinuz</kernel><initrd>/etc/xen/guest/initrd.img</initrd>
<cmdline>console=hvc0 guest.name=v guest.ip=10.9.0.30/24</cmdline></os>
<devices>
<interface type='bridge'><source bridge='xenbr0'/></interface>
<console type='pty'><target type='xen' port='0'/></console>
</devices></domain>
"""


class Virsh:
    """`virsh` in the shell of `machine`; its daemon runs from here to `stop`."""

    def __init__(self, machine):
        self.machine = machine
        machine.run("systemctl start libvirtd", 180)

    def __call__(self, command, timeout=180, check=True):
        return self.machine.run(f"{VIRSH} -q {command}", timeout, check)

    def define(self, xml):
        self.machine.run(f"cat >/root/virsh.xml <<'EOF'\n{xml}EOF\ntrue")
        self("define /root/virsh.xml")

    def console(self, name):
        """Types into the guest's console through virsh and sees its answer; leaves it by Ctrl-], which counts only when it comes alone."""
        machine = self.machine
        machine.send(f"{VIRSH} console {name}\r")
        machine.expect("Escape character is", 90)
        machine.drain(3)
        machine.send("\recho vir''sh\r")
        machine.expect("virsh\r*\n", 90)
        machine.drain(2)
        machine.child.send("\x1d")
        machine.drain(3)
        machine.sync()

    def off(self, name, timeout=120):
        """Waits until libvirt says that the guest has ended and it has no number any more: its domain is destroyed."""
        say = f"{VIRSH} -q list --all"
        want = f" - +{name} +shut off"
        out = self.machine.run(f"for i in $(seq {timeout}); do {say} | grep -qE '^{want}' && break; sleep 1; done; {say}", timeout * 4 + 60)
        assert re.search(want, out), out

    def stop(self):
        self.machine.run("systemctl stop libvirtd.service libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket", 60)
