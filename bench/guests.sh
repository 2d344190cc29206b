#!/bin/sh
# Run by the control domain's init in bench's ramdisk (bench/run guests): makes guests with the stock toolstack and marks the
# moments between which the plugin's counts are taken. bench.key: the debug key that shows the hypervisor's free memory; bench.only=PART: one
# part alone; bench.vcpus: of the guest of hvm_exits.
#
#   10 + 10 n (n = 0..2): create a 64 MiB guest, +1 created, +2 destroy, +3 destroyed, +4 three seconds later
#   40-41 create of the 2nd of many guests, 42-43 of the last
#   50 create a Linux guest, 51 its init runs, 52 ready (bench/guest_init.sh)
#   70 create a Linux PVH guest, 71 its init runs, 72-73 the same of a PV guest (bench.only=pvh alone)
#   74 create a Linux HVM guest, 75 it is ready (seen by dom0, to a second)
#   60-61 guest reads its disk, 62-63 guest sends to dom0, 64-65 guest sends to guest
#   200-215 bench/dom0_ops.c in a guest; 300-308 test/guest/pair_main.c
key=m
many=80
vcpus=2
only="cycles beyond crowd pair linux_guests"
for a in $(cat /proc/cmdline); do
    case $a in
    bench.key=*) key=${a#*=} ;;
    bench.many=*) many=${a#*=} ;;
    bench.vcpus=*) vcpus=${a#*=} ;;
    bench.only=*) only=${a#*=} ;;
    esac
done

config() { # name, MiB, kernel, arguments: a configuration file, printed
    printf 'name="%s"\nmemory=%s\nkernel="/guest/%s"\nextra="%s"\nvcpus=1\non_crash="destroy"\n' "$1" "$2" "$3" "$4" >"/tmp/$1.cfg"
    echo "/tmp/$1.cfg"
}

memory() { # what
    sleep 2
    echo "bench-memory $1"
    xl debug-keys "$key"
    sleep 1
}

cycle() { # first mark
    c=$(config cycle 64 pair role=idle)
    sleep 1
    mark "$1"
    xl create -qp "$c"
    mark $(($1 + 1))
    sleep 2
    mark $(($1 + 2))
    xl destroy cycle
    mark $(($1 + 3))
    sleep 3
    mark $(($1 + 4))
}

cycles() {
    xl create -q "$(config warm 64 pair role=idle)"
    xl destroy warm
    for first in 10 20 30; do
        cycle $first
    done
}

beyond() {
    c=$(config beyond 32 pair role=idle)
    memory without
    xl create -q "$c"
    memory with
    xl destroy beyond
}

crowd() {
    n=1
    while [ $n -le "$many" ]; do
        c=$(config "crowd$n" 8 pair role=idle)
        first=0
        [ $n != 2 ] || first=40
        [ $n != "$many" ] || first=42
        if [ $first != 0 ]; then
            sleep 1
            mark $first
        fi
        xl create -qp "$c" || echo "bench-failed: guest $n of many"
        [ $first = 0 ] || mark $((first + 1))
        n=$((n + 1))
    done
    while [ $n -gt 1 ]; do
        n=$((n - 1))
        xl destroy "crowd$n"
    done
}

pair() {
    xl create -q "$(config last 8 pair role=idle)"
    n=$(xl domid last)
    xl destroy last
    server=$(config server 16 pair "role=server peer=$((n + 2))")
    client=$(config client 16 pair "role=client peer=$((n + 1))")
    xl create -q "$server"
    sleep 1
    xl create -q "$client"
    sleep 8
    i=0
    while xl domid client >/dev/null 2>&1 && [ $i -lt 60 ]; do
        sleep 1
        i=$((i + 1))
    done
    xl destroy server
}

said() { # guest, text, seconds
    i=0
    until grep -aq "$2" "/var/log/xen/console/guest-$1.log" 2>/dev/null; do
        i=$((i + 1))
        if [ $i -gt "$3" ]; then
            echo "bench-failed: $1 did not say '$2'"
            tail -n 5 "/var/log/xen/console/guest-$1.log"
            return 1
        fi
        sleep 1
    done
}

linux() { # name, address, what it does, further lines
    c=$(config "$1" 96 vmlinuz "console=hvc0 guest.ip=$2/24 bench=$3 guest.then=/bin/guest-work guest.quiet")
    printf 'ramdisk="/guest/bench.img"\nvif=["bridge=xenbr0"]\n%s\n' "$4" >>"$c"
    echo "$c"
}

# A block script without udev: the disk is /dev/loop0.
block_script() {
    losetup /dev/loop0 /tmp/disk.img
    cat >/etc/xen/scripts/block-bench <<'END'
#!/bin/sh
[ "$1" = add ] || exit 0
xenstore-write "$XENBUS_PATH/physical-device" 7:0
xenstore-write "$XENBUS_PATH/hotplug-status" connected
END
    chmod 755 /etc/xen/scripts/block-bench
}

linux_guests() {
    dd if=/dev/zero of=/tmp/disk.img bs=1M count=16 2>/dev/null
    block_script
    c=$(linux one 10.9.0.11 one 'disk=["format=raw,vdev=xvda,access=rw,script=block-bench,target=/dev/loop0"]')
    nc -l -p 5001 >/dev/null &
    mark 50
    xl create -q "$c"
    said one bench-guest-one 120
    grep -a "^bench-op" /var/log/xen/console/guest-one.log
    xl create -q "$(linux two 10.9.0.12 two)"
    said two bench-guest-two 120
    xl destroy two
    xl destroy one
}

# Figures of PVH guests: our own kernel's, the memory that a 32 MiB guest takes, a Linux guest's boot.
exits() {
    printf 'type="pvh"\ntsc_mode="native"\n' >/tmp/pvh.add
    (cat /tmp/pvh.add && echo vcpus=2) >/tmp/pvh2.add
    c=$(config exits 32 hvm64 attack=bench)
    cat /tmp/pvh2.add >>"$c"
    xl create -q "$c"
    said exits bench-done 120
    grep -a "^bench" /var/log/xen/console/guest-exits.log
    xl destroy exits 2>/dev/null
}

pvh() {
    exits
    c=$(config idle 32 hvm64 attack=rests)
    cat /tmp/pvh2.add >>"$c"
    xl create -q "$c"
    xl destroy idle
    memory without
    xl create -q "$c"
    memory with
    xl destroy idle
    c=$(linux three 10.9.0.13 three)
    cat /tmp/pvh.add >>"$c"
    mark 70
    xl create -q "$c"
    said three "guest: ready" 200
    xl destroy three
    c=$(linux four 10.9.0.14 four) # the same as a PV guest
    mark 72
    xl create -q "$c"
    said four "guest: ready" 200
    xl destroy four
}

# The machine that bench/exits/exits.c measures, populated on demand so that there is memory for a first touch; and Linux by BIOS and GRUB.
hvm_exits() {
    cat >/tmp/exits.cfg <<END
name="exits"
type="hvm"
tsc_mode="native"
vcpus=$vcpus
memory=48
maxmem=64
boot="c"
vnc=0
serial="file:/tmp/exits.serial"
disk=["format=raw,vdev=hda,access=rw,target=/guest/exits.img"]
on_poweroff="preserve"
on_crash="preserve"
END
    xl create -q /tmp/exits.cfg || echo "bench-failed: xl create of an HVM guest"
    i=0
    until grep -aq bench-exits-done /tmp/exits.serial || [ $i -gt 300 ]; do
        i=$((i + 1))
        sleep 1
    done
    grep -a "^bench" /tmp/exits.serial
    xl destroy exits
}

hvm() {
    hvm_exits
    [ "$key" = m ] || return # Debian's Xen cannot start it in this emulator
    sed 's/exits/boots/g; s/^memory=.*/memory=144/; /^maxmem/d; s/^vcpus=.*/vcpus=1/; s/^boot=.*/&\nhdtype="ahci"/; s|/guest/boots.img|/guest/linux.img|' /tmp/exits.cfg >/tmp/boots.cfg
    mark 74
    xl create -q /tmp/boots.cfg
    said boots "guest: ready" 600
    mark 75
    xl destroy boots
}

PATH=/usr/sbin:/usr/bin:/bin
[ -e /guest/pair ] || exit
for part in $(echo "$only" | tr , " "); do
    $part
done
echo "bench-guests-done"
