#!/usr/bin/env bash
# make_rootfs.sh - a small Debian root folder for any architecture, for test devices.
#
# usage: make_rootfs.sh ARCH OUT_DIR [options]
#   ARCH              amd64 | arm64 | armhf | ...  (Debian's names)
#   OUT_DIR           the root folder to make (must be absent, or made by this script)
# options:
#   --mode extract|debootstrap   default: extract
#         extract:     apt resolves and downloads, the packages are unpacked, no
#                      package script runs.  Needs no emulation and no binfmt_misc;
#                      tens of seconds.  Accounts, dpkg status, sshd and ld paths are
#                      put right afterwards.
#         debootstrap: the real thing; for a foreign ARCH it needs binfmt_misc +
#                      qemu-user-static on this machine; minutes.
#   --suite NAME      default: bookworm
#   --mirror URL      default: where this machine's own apt gets SUITE from
#   --keyring FILE    default: /usr/share/keyrings/debian-archive-keyring.gpg
#   --packages "..."  default: "openssh-server python3 mount procps iproute2 kmod ca-certificates"
#   --cache FILE      a .tar.zst: unpacked instead of building if there, written after
#                     building if not
#   --debs DIR        keep downloaded packages here between runs (extract mode)
#
# Run as root; extract mode also as a user: unshare -r make_rootfs.sh ... (and the same for
# add_wheels.sh and make_vm.sh on its result). Idempotent: does
# nothing when OUT_DIR/.edge-rootfs already names the same build.
set -euo pipefail
die() { echo "make_rootfs.sh: $*" >&2; exit 1; }
[ $# -ge 2 ] || { awk 'NR > 1 { if (!/^#/) exit; print }' "$0"; exit 2; }

arch=$1; out=$2; shift 2
mode=extract suite=bookworm mirror='' cache='' debs=''
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
packages="openssh-server python3 mount procps iproute2 kmod ca-certificates"
while [ $# -gt 0 ]; do
  case $1 in
    --mode) mode=$2 ;; --suite) suite=$2 ;; --mirror) mirror=$2 ;;
    --keyring) keyring=$2 ;; --packages) packages=$2 ;; --cache) cache=$2 ;;
    --debs) debs=$2 ;; *) die "unknown option $1" ;;
  esac
  shift 2
done

stamp="$arch $suite $mode $packages"
if [ -f "$out/.edge-rootfs" ]; then
  [ "$(cat "$out/.edge-rootfs")" = "$stamp" ] && { echo "$out is up to date"; exit 0; }
  die "$out holds another build ($(cat "$out/.edge-rootfs")); remove it first"
fi
[ ! -e "$out" ] || [ -z "$(ls -A "$out")" ] || die "$out exists and is not empty"
mkdir -p "$out"; out=$(cd "$out" && pwd)

# without the right to give files away (unshare -r), all files belong to root
own=--same-owner
: > "$out/.probe"; chown 0:50 "$out/.probe" 2>/dev/null || own=--no-same-owner; rm -f "$out/.probe"

if [ -n "$cache" ] && [ -f "$cache" ]; then
  tar --zstd --numeric-owner $own -C "$out" -xpf "$cache"
  echo "$stamp" > "$out/.edge-rootfs"
  echo "unpacked $cache into $out"; exit 0
fi

# where does this machine's apt get the suite (and its security updates) from?
own_sources() {
  apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    sort -u | awk -v s="$suite" '$2 == s || $2 == s "-updates" || $2 == s "-security"'
}
if [ -n "$mirror" ]; then srcs="$mirror $suite main"; else srcs=$(own_sources); fi
[ -n "$srcs" ] || die "this machine's apt has no $suite; give --mirror"

build_extract() {
  local st deb n=0
  st=$(mktemp -d); trap 'rm -rf "$st"' RETURN
  mkdir -p "$st/lists/partial" "$st/cache/archives/partial"
  : > "$st/status"; : > "$st/none"; mkdir -p "$st/none.d"
  echo "$srcs" | awk -v k="$keyring" '{print "deb [signed-by=" k "] " $1 " " $2 " " $3}' > "$st/sources.list"
  if [ -n "$debs" ]; then mkdir -p "$debs/partial"; debs=$(cd "$debs" && pwd); else debs=$st/cache/archives; fi
  cat > "$st/apt.conf" <<EOF
Dir::Etc::SourceList "$st/sources.list";
Dir::Etc::SourceParts "$st/none.d";
Dir::Etc::Preferences "$st/none";
Dir::Etc::PreferencesParts "$st/none.d";
Dir::State::Lists "$st/lists";
Dir::State::status "$st/status";
Dir::Cache "$st/cache";
Dir::Cache::Archives "$debs";
APT::Architecture "$arch";
APT::Architectures { "$arch"; };
APT::Sandbox::User "root";
APT::Install-Recommends "false";
Acquire::Languages "none";
DPkg::Post-Invoke {};
APT::Keep-Downloaded-Packages "true";
EOF
  export APT_CONFIG=$st/apt.conf
  if ! apt-get -qq update; then
    # a mirror's security or updates index can be out of step for a while: the release
    # alone is good enough for a test device
    echo "make_rootfs.sh: trying again with $suite alone" >&2
    sed -i "/ $suite-/d; / $suite main/!d" "$st/sources.list"
    rm -rf "$st/lists"; mkdir -p "$st/lists/partial"
    apt-get -qq update
  fi
  # shellcheck disable=SC2086
  apt-get -qq -y --download-only --no-install-recommends install '?essential' $packages >/dev/null
  # exactly the packages of this resolution (the --debs folder may hold older ones)
  # shellcheck disable=SC2086
  apt-get -qq -y --print-uris --no-install-recommends -o Dir::Cache::Archives="$st/none.d" \
      install '?essential' $packages 2>/dev/null | awk '{print $2}' > "$st/files"
  unset APT_CONFIG
  [ -s "$st/files" ] || die "apt resolved nothing"

  # merged /usr, as debootstrap makes it
  local d f
  for d in bin sbin lib; do mkdir -p "$out/usr/$d"; ln -s "usr/$d" "$out/$d"; done
  [ "$arch" != amd64 ] || { mkdir -p "$out/usr/lib64"; ln -s usr/lib64 "$out/lib64"; }
  mkdir -p "$out/var/lib/dpkg/info" "$out/var/lib/dpkg/updates"
  while read -r deb; do
    # no documentation: a third of the size
    dpkg-deb --fsys-tarfile "$debs/$deb" |
      tar -C "$out" --keep-directory-symlink --numeric-owner $own \
          --exclude './usr/share/doc/*' --exclude './usr/share/man/*' \
          --exclude './usr/share/locale/*' --exclude './usr/share/info/*' -xpf -
    # a dpkg status stanza, so that dpkg-query answers on the device
    dpkg-deb -f "$debs/$deb" | sed '1a Status: install ok installed' >> "$out/var/lib/dpkg/status"
    echo >> "$out/var/lib/dpkg/status"
    n=$((n + 1))
  done < "$st/files"
  echo "$n packages unpacked"

  # what the package scripts would have done, as far as a device needs it
  cp "$out/usr/share/base-passwd/passwd.master" "$out/etc/passwd"
  cp "$out/usr/share/base-passwd/group.master" "$out/etc/group"
  sed -i 's|^root:[^:]*:\(.*\)$|root:x:\1|' "$out/etc/passwd"
  echo 'sshd:x:100:65534::/run/sshd:/usr/sbin/nologin' >> "$out/etc/passwd"
  echo 'root:*:19700:0:99999:7:::' > "$out/etc/shadow"; chmod 640 "$out/etc/shadow"
  [ -e "$out/bin/sh" ] || ln -s dash "$out/bin/sh"
  [ -e "$out/usr/bin/awk" ] || ln -s mawk "$out/usr/bin/awk"
  # shared libraries reached through the alternatives system (numpy's BLAS)
  for d in "$out"/usr/lib/*/blas "$out"/usr/lib/*/lapack; do
    [ -d "$d" ] || continue
    for f in "$d"/lib*.so.[0-9]; do ln -sf "${d##*/}/${f##*/}" "$d/../${f##*/}"; done
  done
  mkdir -p "$out/etc/ssh"
  [ -f "$out/etc/ssh/sshd_config" ] || [ ! -f "$out/usr/share/openssh/sshd_config" ] || cp "$out/usr/share/openssh/sshd_config" "$out/etc/ssh/sshd_config"
  [ -f "$out/etc/nsswitch.conf" ] || printf 'passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n' > "$out/etc/nsswitch.conf"
  # a certificate bundle (ca-certificates' postinst builds it)
  if [ -d "$out/usr/share/ca-certificates/mozilla" ]; then
    mkdir -p "$out/etc/ssl/certs"
    cat "$out"/usr/share/ca-certificates/mozilla/*.crt > "$out/etc/ssl/certs/ca-certificates.crt"
  fi
}

build_debootstrap() {
  command -v debootstrap >/dev/null || die "no debootstrap (apt-get install debootstrap)"
  local url; url=$(echo "$srcs" | awk -v s="$suite" '$2 == s {print $1; exit}')
  # shellcheck disable=SC2086
  debootstrap --arch="$arch" --variant=minbase --keyring="$keyring" \
    --include="$(echo $packages | tr ' ' ',')" "$suite" "$out" "$url"
  rm -rf "$out"/var/cache/apt/archives/*.deb "$out"/var/lib/apt/lists/* \
         "$out"/usr/share/doc/* "$out"/usr/share/man/* "$out"/usr/share/locale/*
  rm -f "$out"/etc/ssh/ssh_host_*      # every device makes its own
  chmod -R u+w "$out/etc/apt"; rm -f "$out/etc/apt/sources.list"
}

"build_$mode"

# common to both modes
printf '127.0.0.1 localhost\n' > "$out/etc/hosts"
echo edge-device > "$out/etc/hostname"
: > "$out/etc/resolv.conf"
mkdir -p "$out/root/.ssh" "$out/run/sshd" "$out/proc" "$out/sys" "$out/dev" "$out/tmp" \
         "$out/opt" "$out/mnt" "$out/srv" "$out/home" "$out/var/tmp" "$out/var/log" "$out/usr/local/bin"
chmod 700 "$out/root" "$out/root/.ssh"; chmod 1777 "$out/tmp" "$out/var/tmp"

# Python's byte code, made by a host Python of the same minor version if there is one
# (emulated machines start Python several times faster with it)
py=$(readlink "$out/usr/bin/python3" 2>/dev/null || true); py=${py##*/}
if [ -n "$py" ] && command -v "$py" >/dev/null && [ -d "$out/usr/lib/$py" ]; then
  "$py" -m compileall -q -s "$out" -p / --invalidation-mode unchecked-hash "$out/usr/lib/$py" >/dev/null 2>&1 || true
fi

echo "$stamp" > "$out/.edge-rootfs"
if [ -n "$cache" ]; then
  mkdir -p "$(dirname "$cache")"
  tar --zstd --numeric-owner -C "$out" --exclude=./.edge-rootfs -cpf "$cache.part" .
  mv "$cache.part" "$cache"
fi
echo "made $out ($(du -sm "$out" | cut -f1) MB)"
