#!/bin/bash
# device_shell_bwrap.sh - ForceCommand of an sshd: every session sees this machine with a board's identity.
#
#   DEVICE_DIR   the device's folder: DEVICE_DIR/home is /home (= $HOME); DEVICE_DIR/persona (make_personas.py) covers
#                /proc, /sys and those of its /etc and /usr files that exist here
#
# Needs bubblewrap, no root. The machine's own files are read-only and /tmp is fresh per session. Processes outlive their
# session, as on a board. No own network, no disk or memory limit: a VM has these.
set -e
persona=$DEVICE_DIR/persona
args=()
if [ -d "$persona" ]; then
  for t in firmware class/thermal; do
    if [ -d "$persona/sys/$t" ] && [ -d "/sys/$t" ]; then args+=(--tmpfs "/sys/$t"); fi
  done
  while IFS= read -r f; do
    f=${f#"$persona"/}
    case $f in
      sys/firmware/*|sys/class/thermal/*) ;;
      *) [ -e "/$f" ] || continue ;;
    esac
    args+=(--ro-bind "$persona/$f" "/$f")
  done < <(find "$persona" -type f)
fi
exec bwrap --ro-bind / / --bind /proc /proc --dev-bind /dev /dev --tmpfs /tmp --bind "$DEVICE_DIR/home" /home \
  "${args[@]}" --setenv HOME /home --chdir /home /bin/sh -c "${SSH_ORIGINAL_COMMAND:-exec /bin/sh -l}"
