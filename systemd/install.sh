#!/bin/sh
# Called by `make install`: a new release beside the old one, then one rename. Run again, it upgrades.
# Environment: PYTHON (the interpreter that the service will use), WHEELS (made by `make wheels`), DESTDIR, PREFIX,
# SYSTEMD_VERSION (of the machine that it is for; else this one's).
# With DESTDIR nothing outside it is touched: no user is made, no service told.
set -eu
umask 022
cd "$(dirname "$0")/.."
root=${DESTDIR:-}
home=$root/opt/streamtrain
lib=$root$PREFIX/lib

fail() { echo "make install: $*" >&2; exit 1; }

real=$("$PYTHON" -c 'import os, sys; print(os.path.realpath(sys.executable))') || fail "$PYTHON does not run; give SERVICE_PYTHON=/path/to/python3"
case $real in
    /usr/*) ;;
    *) fail "the service could not run $real: it sees programs below /usr alone; give SERVICE_PYTHON=/usr/bin/python3 (Debian: python3-venv)" ;;
esac
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$real is older than Python 3.11; give SERVICE_PYTHON="
ls "$WHEELS"/streamtrain-*.whl >/dev/null 2>&1 || fail "no wheels in $WHEELS; run make wheels first"
[ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "needs root (sudo make install), or DESTDIR="

# The release. Its files are not written to again: a service that runs from the one before is not disturbed.
mkdir -p "$home"
n=1
while [ -e "$home/release-$n" ] || [ "release-$n" = "$(readlink "$home/venv" || true)" ]; do n=$((n + 1)); done
release=$home/release-$n
trap 'rm -rf "$release"' EXIT
"$PYTHON" -m venv "$release"
"$release/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile --no-index --find-links "$WHEELS" \
    "streamtrain[${EXTRAS}]"
"$release/bin/python" -m pip uninstall --quiet --disable-pip-version-check --yes pip setuptools
if [ -n "$root" ]; then # paths as they will be, not as they are now
    grep -rlIF "$root" "$release/bin" "$release/pyvenv.cfg" | xargs -r sed -i "s|$root||g"
fi
"$PYTHON" -m compileall -q -j 0 -s "$root" -p / "$release/lib" >/dev/null || fail "the release does not compile"
trap - EXIT
old=$(readlink "$home/venv" || true)
ln -sfn "release-$n" "$home/.venv-new" # -f: an installation that was killed may have left one
mv -T "$home/.venv-new" "$home/venv"

# What the service sees as / (RootDirectory=): mount points, and the links of a merged /usr.
for folder in usr etc/streamtrain opt/streamtrain proc sys dev run tmp var/tmp var/lib var/cache var/log; do
    mkdir -p "$home/root/$folder"
done
for link in bin sbin lib lib64; do ln -sfn "usr/$link" "$home/root/$link"; done

install -d "$home/doc" "$root/etc/streamtrain" "$root$PREFIX/bin" "$lib/systemd/system" "$lib/sysusers.d" "$lib/tmpfiles.d"
install -m 644 docs/*.md config/streamtrain.yaml "$home/doc"
ln -sfn /opt/streamtrain/venv/bin/streamtrain "$root$PREFIX/bin/streamtrain"
install -m 644 systemd/*.service systemd/*.socket "$lib/systemd/system"
install -m 644 systemd/sysusers.conf "$lib/sysusers.d/streamtrain.conf"
install -m 644 systemd/tmpfiles.conf "$lib/tmpfiles.d/streamtrain.conf"
version=${SYSTEMD_VERSION:-$(systemctl --version 2>/dev/null | sed -n '1s/systemd \([0-9]*\).*/\1/p')}
for unit in streamtrain streamtrain@; do
    if [ "${version:-0}" -ge 254 ]; then
        install -D -m 644 systemd/backoff.conf "$lib/systemd/system/$unit.service.d/backoff.conf"
    else
        rm -rf "$lib/systemd/system/$unit.service.d"
    fi
done

# The configuration: one that was changed stays, and the new default lies beside it.
config=$root/etc/streamtrain/streamtrain.yaml
if [ ! -e "$config" ] || cmp -s "$config" "$home/doc/service.yaml"; then
    install -m 644 config/service.yaml "$config"
elif ! cmp -s config/service.yaml "$home/doc/service.yaml"; then
    install -m 644 config/service.yaml "$config.new"
    echo "$config was changed and stays; the new default is in $config.new"
fi
install -m 644 config/service.yaml "$home/doc/service.yaml"

if [ -z "$root" ]; then
    systemd-sysusers "$lib/sysusers.d/streamtrain.conf"
    systemd-tmpfiles --create "$lib/tmpfiles.d/streamtrain.conf"
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload
        systemctl try-restart streamtrain.service 'streamtrain@*.service'
    fi
fi
# The release before stays, to step back to: ln -sfn release-N /opt/streamtrain/venv
for other in "$home"/release-*; do
    case ${other##*/} in "release-$n" | "$old") ;; *) rm -rf "$other" ;; esac
done
echo "installed: $("$release/bin/python" -c 'import importlib.metadata as m; print("streamtrain", m.version("streamtrain"))')"
