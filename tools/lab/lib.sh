# tools/lab/lib.sh - what the image scripts share. Sourced with ME (the script's name) set, from the project's top directory.
#
# A "tree" is a Debian root file system in a directory. The base tree (Debian 12 with its stock kernel) is made once and kept in
# build/deps/base-bookworm; every other Debian 12 tree is a copy of it. Package files are kept in build/deps/debs.

DEBS=build/deps/debs
BASE=build/deps/base-bookworm
LOG=build/dom0.log
SSH_KEY=build/deps/ssh-key
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

BASE_INCLUDE=systemd,systemd-sysv,dbus,udev,kmod,procps,iproute2,iputils-ping,netcat-openbsd,wget,ca-certificates
BASE_INCLUDE+=,initramfs-tools,zstd,xz-utils,busybox,less

say() { printf '%s: %s\n' "$ME" "$*" >&2; }
die() { say "FAILED: $1"; say "cure: $2"; exit 1; }

# "release uri" of the Debian 12 package sources of this machine.
sources() { apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages'; }

mirror() {
    local url
    url=$(sources | awk '$1 == "bookworm" || $1 == "oldstable" || $1 == "stable" { print $2; exit }')
    [ -n "$url" ] || die "apt's configuration names no Debian 12 mirror" \
        "run 'apt-get update', or add a 'bookworm' source to /etc/apt"
    echo "$url"
}

# in_tree DIRECTORY COMMAND...
in_tree() {
    local r=$1
    shift
    chroot "$r" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
        http_proxy="${http_proxy:-}" "$@"
}

# debian_tree SUITE DIRECTORY PACKAGE,PACKAGE... - by debootstrap.
debian_tree() {
    local url proxy=
    url=$(mirror)
    eval "$(apt-config shell proxy Acquire::http::Proxy)"
    [ -z "$proxy" ] || export http_proxy=$proxy
    mkdir -p $DEBS
    debootstrap --variant=minbase --include="$3" --cache-dir="$PWD/$DEBS" "$1" "$2" "$url" >>$LOG 2>&1 || {
        tail -5 $LOG >&2
        die "debootstrap of $1 failed" "read $LOG and $2/debootstrap/debootstrap.log"
    }
}

# tree_install DIRECTORY PACKAGE... - apt-get install without recommendations; no service is started.
tree_install() {
    local r=$1 status=0
    shift
    printf 'exit 101\n' | install -m 755 /dev/stdin "$r/usr/sbin/policy-rc.d"
    mount -t proc proc "$r/proc"
    cp -ln $DEBS/*.deb "$r/var/cache/apt/archives/" 2>/dev/null || cp -n $DEBS/*.deb "$r/var/cache/apt/archives/" || true
    { in_tree "$r" apt-get -qq -o Acquire::Retries=3 update &&
      in_tree "$r" apt-get -qq -y --no-install-recommends -o APT::Keep-Downloaded-Packages=true -o Acquire::Retries=3 \
          -o Dpkg::Use-Pty=0 -o DPkg::Options::=--force-confold -o DPkg::Options::=--force-unsafe-io install "$@"; } >>$LOG 2>&1 || status=1
    mv -n "$r"/var/cache/apt/archives/*.deb $DEBS/ 2>/dev/null || true
    rm -f "$r"/var/cache/apt/archives/*.deb "$r/usr/sbin/policy-rc.d"
    umount "$r/proc"
    [ $status = 0 ] || {
        tail -15 $LOG >&2
        die "packages cannot be installed in $r: $*" "read $LOG; check that this machine reaches its Debian mirror"
    }
}

# Nothing of ours stays mounted in a tree below $1.
unmount_below() {
    local m
    awk -v d="$PWD/$1/" 'index($2, d) == 1 { print $2 }' /proc/mounts | sort -r | while read -r m; do umount -l "$m"; done
}

base_stamp() { { echo $BASE_INCLUDE; declare -f base_tree; find tools/lab/base -type f | LC_ALL=C sort | xargs cat; } | sha256sum | cut -d" " -f1; }

# The base tree: Debian 12, its stock kernel, settings that every lab machine wants (tools/lab/base).
base_tree() {
    local want
    want=$(base_stamp)
    [ ! -f $BASE.stamp ] || [ "$(cat $BASE.stamp)" != "$want" ] || return 0
    rm -f $BASE.stamp
    unmount_below $BASE
    rm -rf --one-file-system $BASE
    say "debootstrap Debian 12 (log: $LOG)"
    debian_tree bookworm $BASE $BASE_INCLUDE
    sources | awk '/bookworm/ && !/backports/ { print "deb", $2, $1, "main" }' >$BASE/etc/apt/sources.list
    cp -r tools/lab/base/. $BASE/
    printf 'nameserver 10.0.2.3\n' >build/deps/resolv.conf
    in_tree $BASE passwd -d root >>$LOG
    local unit
    for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
                e2scrub_reap.service fstrim.timer getty@tty1.service systemd-update-utmp.service \
                systemd-update-utmp-runlevel.service systemd-networkd-wait-online.service \
                systemd-pstore.service systemd-rfkill.service systemd-rfkill.socket systemd-random-seed.service \
                systemd-timesyncd.service systemd-binfmt.service systemd-hwdb-update.service \
                modprobe@drm.service sys-kernel-debug.mount sys-kernel-tracing.mount; do
        ln -sf /dev/null $BASE/etc/systemd/system/$unit
    done
    in_tree $BASE systemctl -q enable systemd-networkd.service >>$LOG 2>&1
    in_tree $BASE systemctl -q set-default multi-user.target >>$LOG 2>&1
    say "installing Debian 12's kernel"
    tree_install $BASE linux-image-amd64
    echo "$want" >$BASE.stamp
}

ssh_key() { [ -f $SSH_KEY ] || ssh-keygen -q -t ed25519 -N '' -C krypton-lab -f $SSH_KEY; }

# tree_image DIRECTORY FILE MIB LABEL [mke2fs arguments] - an ext4 file system with the tree's content.
tree_image() {
    local r=$1 file=$2 mib=$3 label=$4
    shift 4
    mke2fs -q -t ext4 -L "$label" -m 0 -O ^metadata_csum_seed,^orphan_file \
        -E "lazy_itable_init=0,lazy_journal_init=0${1:+,$1}" -d "$r" "$file" "${mib}M"
}

# What an image does not need.
tree_slim() {
    rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/* "$1"/usr/share/doc/* "$1"/usr/share/man/* \
        "$1"/usr/share/locale/* "$1"/usr/share/info/* "$1"/var/log/*.log
    cp build/deps/resolv.conf "$1/etc/resolv.conf"
    echo 0123456789abcdef0123456789abcdef >"$1/etc/machine-id"
}
