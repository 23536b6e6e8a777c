#!/bin/sh
# Called by `make uninstall`: takes away what `make install` put there. Configuration, models, state, logs and the user
# stay: they are the operator's. Environment: DESTDIR, PREFIX.
set -eu
root=${DESTDIR:-}
lib=$root$PREFIX/lib
if [ -z "$root" ]; then
    [ "$(id -u)" = 0 ] || { echo "make uninstall: needs root (sudo make uninstall), or DESTDIR=" >&2; exit 1; }
    if [ -d /run/systemd/system ]; then
        # Instances are found by what is enabled or loaded; there may be none.
        units=$(systemctl list-units --all --plain --no-legend 'streamtrain@*' | cut -d' ' -f1)
        enabled=$(find /etc/systemd/system -name 'streamtrain@*.*' -type l -printf '%f\n')
        for unit in streamtrain.service streamtrain.socket $units $enabled; do
            # Where it was taken away before, or by half, there is nothing to disable.
            systemctl cat "$unit" >/dev/null 2>&1 || continue
            systemctl disable --quiet --now "$unit"
        done
    fi
fi
for unit in streamtrain streamtrain@; do
    rm -f "$lib/systemd/system/$unit.service" "$lib/systemd/system/$unit.socket"
    rm -rf "$lib/systemd/system/$unit.service.d"
done
rm -f "$lib/sysusers.d/streamtrain.conf" "$lib/tmpfiles.d/streamtrain.conf" "$root$PREFIX/bin/streamtrain"
rm -rf "$root/opt/streamtrain"
if [ -z "$root" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
echo "kept: /etc/streamtrain, /var/lib/streamtrain*, /var/cache/streamtrain*, /var/log/streamtrain, the user streamtrain"
