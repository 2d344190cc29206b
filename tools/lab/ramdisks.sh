# tools/lab/ramdisks.sh - initial ramdisks of the laboratory. Sourced after lib.sh.
#
#   busybox_ramdisk FILE                 control domain, busybox only
#   guest_ramdisk FILE TREE              guest: busybox, disk and network front ends
#   xl_ramdisk FILE TREE VERSION GUEST   control domain with the stock toolstack VERSION (4.17) of TREE and a guest to start
#
# All are uncompressed cpio archives, the same bytes for the same inputs. Programs and modules are the distribution's files.

CONTROL_MODULES="xen-evtchn xen-gntdev xen-gntalloc xen-privcmd xenfs xen-blkback xen-netback loop bridge"
GUEST_MODULES="xen-blkfront xen-netfront xen-evtchn xen-gntdev xen-gntalloc xen-privcmd xenfs"

ramdisk_pack() { # directory, file
    (cd "$1" && find . | LC_ALL=C sort | cpio -o -H newc --quiet --reproducible -R 0:0) >"$2"
    rm -rf "$1"
}

# The kernel's own initial ramdisk brings /dev/console.
ramdisk_busybox() { # directory, init
    local a
    rm -rf "$1"
    mkdir -p "$1"/{bin,dev,proc,sys,tmp,root,run,etc}
    cp /bin/busybox "$1/bin/busybox"
    for a in $(/bin/busybox --list); do [ "$a" = busybox ] || ln -s busybox "$1/bin/$a"; done
    ln -s bin "$1/sbin"
    install -m 755 "$2" "$1/init"
}

# The modules $3... and what they need, for every kernel of the tree that has them, and the order to load them in.
ramdisk_modules() { # directory, tree
    local d=$1 tree=$2 v file to
    shift 2
    for v in $(ls "$tree/usr/lib/modules"); do
        mkdir -p "$d/lib/modules/$v"
        for file in $(in_tree "$tree" modprobe -S "$v" -a --show-depends "$@" | awk '$1 == "insmod" { print $2 }'); do
            to=$(basename "${file%.xz}")
            [ ! -e "$d/lib/modules/$v/$to" ] || continue
            case $file in *.xz) xz -dc "$tree$file" ;; *) cat "$tree$file" ;; esac >"$d/lib/modules/$v/$to"
            echo "$to" >>"$d/lib/modules/$v/order"
        done
    done
}

busybox_ramdisk() {
    ramdisk_busybox "$1.d" tools/lab/dom0/ramdisk-init
    ramdisk_pack "$1.d" "$1"
}

guest_ramdisk() {
    ramdisk_busybox "$1.d" tools/lab/guest/init
    rm "$1.d/bin/poweroff" "$1.d/bin/reboot" "$1.d/bin/halt"
    # What the kernel runs when the toolstack asks for a shutdown; init is a script and takes no signals.
    printf '#!/bin/sh\necho "guest: poweroff" >/dev/console\nsync\nexec busybox poweroff -f\n' | install -m 755 /dev/stdin "$1.d/bin/poweroff"
    printf '#!/bin/sh\necho "guest: reboot" >/dev/console\nsync\nexec busybox reboot -f\n' | install -m 755 /dev/stdin "$1.d/bin/reboot"
    install -m 755 tools/lab/guest/udhcpc "$1.d/etc/udhcpc"
    ramdisk_modules "$1.d" "$2" $GUEST_MODULES
    ramdisk_pack "$1.d" "$1"
}

# Files of the tree, with the libraries that they are linked with.
ramdisk_programs() { # directory, tree, file...
    local d=$1 tree=$2 f
    shift 2
    for f in "$@" $(in_tree "$tree" ldd "$@" 2>/dev/null | grep -oE '/[^ :]+' | sort -u); do
        [ -e "$d$f" ] || { mkdir -p "$d$(dirname "$f")"; cp -L "$tree$f" "$d$f"; }
    done
}

# Our one program: the hypervisor's free pages, linked with Debian 12's library.
xen_free() { # directory
    mkdir -p "$1"
    gcc -O2 -Wall -o "$1/xen-free" tools/lab/xen-free.c -lxenctrl
}

xl_ramdisk() {
    local d=$1.d tree=$2 version=$3 guest=$4 bin=/usr/lib/xen-$3/bin f programs=
    ramdisk_busybox "$d" tools/lab/dom0/ramdisk-init
    mkdir -p "$d"/usr/{bin,sbin,lib} "$d"/var/{log,lib}/xen "$d"/var/lib/xen/dump "$d/guest" "$d/lib" "$d/lib64"
    ln -s ../run "$d/var/run"
    ln -s ../run "$d/var/lock"
    for f in "$tree$bin"/*; do
        head -c 4 "$f" | grep -q ELF || continue
        programs+=" $bin/${f##*/}"
        ln -sf "$bin/${f##*/}" "$d/usr/sbin/${f##*/}"
    done
    for f in "$tree"/usr/bin/xenstore*; do
        [ -L "$f" ] || programs+=" /usr/bin/${f##*/}"
    done
    for f in chmod exists list ls read rm watch write; do ln -s xenstore "$d/usr/bin/xenstore-$f"; done
    # oxenstored of 4.20 loads how it asks for domains' state.
    for f in "$tree/usr/lib/xen-$version"/ocaml/xsd_glue/*/*.cmxs; do
        [ ! -f "$f" ] || programs+=" ${f#"$tree"}"
    done
    # libgcc_s is what the C library loads when a thread is cancelled.
    programs+=" /usr/bin/bash /usr/bin/grep /usr/bin/stat /usr/bin/flock /usr/bin/ip /usr/sbin/losetup /lib/x86_64-linux-gnu/libgcc_s.so.1"
    # shellcheck disable=SC2086
    ramdisk_programs "$d" "$tree" $programs
    ln -sf /usr/bin/bash "$d/bin/bash"
    cp -r "$tree/etc/xen" "$d/etc/"
    install -m 755 tools/lab/dom0/files/usr/local/bin/guest-* "$d/usr/bin/"
    [ "$version" != 4.17 ] || xen_free "$d/usr/bin"
    install -m 755 tools/lab/dom0/ramdisk-xl "$d/etc/xl-start"
    echo "$version" >"$d/etc/xl-version"
    # Debian's cloud kernel: small, and packed by lz4, which costs little to unpack in an emulator.
    cp "$guest/vmlinuz-cloud" "$d/guest/vmlinuz"
    cp "$guest/vmlinuz-amd64" "$d/guest/vmlinuz-amd64"
    cp "$guest/guest.img" "$d/guest/initrd.img"
    cp tools/lab/guest/small.cfg "$d/guest/"
    ramdisk_modules "$d" "$MODULES_TREE" $CONTROL_MODULES
    ramdisk_pack "$d" "$1"
}
