#!/bin/bash
# device_shell_qemu.sh - ForceCommand of an sshd: every session in the userland of another architecture.
#
#   DEVICE_ROOT  root folder of that architecture (make_rootfs.sh); shown read-only
#   DEVICE_DIR   the device's folder; DEVICE_DIR/home is /home (= $HOME), the only place that keeps what is written
#                DEVICE_DIR/persona/sys/firmware (make_personas.py), if there, is its device tree
#   DEVICE_PATH  PATH of its sessions; the usual one where it is not set
#   DEVICE_QEMU  static qemu-user of that architecture (get_qemu_user.sh); QEMU_CPU names its processor
#
# Needs no root, but bubblewrap and Linux >= 6.7: since then a user namespace has its own binfmt_misc, so nothing is
# registered on the host. Processes outlive their session, as on a board. Memory figures include the emulator.
set -e
elf_magic() { # of the machine number of file $1
  local m c; m=$(od -An -tx1 -j18 -N2 "$1" | tr -d ' \n'); c=$(od -An -tx1 -j4 -N1 "$1" | tr -d ' \n')
  printf '\\x7fELF\\x%s\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\x%s\\x%s' "$c" "${m:0:2}" "${m:2:2}"
  printf ':\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff'
}
MAGIC=$(elf_magic "$(readlink -f "$DEVICE_ROOT/usr/bin/env")")
export MAGIC DEVICE_COMMAND=${SSH_ORIGINAL_COMMAND:-exec /bin/sh -l}
# shellcheck disable=SC2016
exec unshare --user --map-root-user --mount /bin/sh -ec '
  mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
  printf "%s" ":device:M::$MAGIC:$DEVICE_QEMU:POCF" > /proc/sys/fs/binfmt_misc/register
  set -- --ro-bind "$DEVICE_ROOT" / --dev-bind /dev /dev --bind /proc /proc --bind /sys /sys --tmpfs /tmp --tmpfs /run
  tree=$DEVICE_DIR/persona/sys/firmware
  [ ! -d "$tree" ] || set -- "$@" --ro-bind "$tree" /sys/firmware
  exec bwrap "$@" --bind "$DEVICE_DIR/home" /home --setenv HOME /home --setenv PATH "${DEVICE_PATH:-/usr/local/bin:/usr/bin:/bin}" --chdir /home \
    /bin/sh -c "$DEVICE_COMMAND"'
