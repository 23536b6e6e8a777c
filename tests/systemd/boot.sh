# What an operator does, under the systemd that systemd-sandbox booted. Run by test_service.py, which reads $WORK/steps: the
# names of the steps that were done. $WORK has the trees `older` and `newer`, their wheels, and logs of 500 lines each.
set -eEu
step=start
exec 2>&1
began=$SECONDS
done_with() { echo "$step" >> "$WORK/steps"; echo "== $step: done at $((SECONDS - began)) s"; }
trap 'echo "== $step failed in line $LINENO: $BASH_COMMAND"; systemctl status --no-pager -l -n 5 "streamtrain*" || true
      journalctl --no-pager -o cat -n 80 _SYSTEMD_UNIT=streamtrain.service + UNIT=streamtrain.service + _SYSTEMD_UNIT=streamtrain@chat.service + UNIT=streamtrain@chat.service' ERR

fail() { echo "$*"; false; }
until_true() { # SECONDS COMMAND...
    local end=$((SECONDS + $1)); shift
    until "$@" > /dev/null 2>&1; do [ $SECONDS -lt $end ] || fail "in vain: $*"; sleep 0.2; done
}
property() { systemctl show --value -p "$1" "${2:-streamtrain}"; }
command_of() { runuser -u streamtrain -- streamtrain "$@"; }
json() { python3 -c "import json, sys; state = json.load(sys.stdin); print($1)"; }
# Samples, duplicates, quarantined and lost bytes: nothing is missing and nothing twice.
# With no argument by the configuration as shipped: the one in use may be a wrong one, which no command takes.
counts() { command_of status --json --config "${1:-/opt/streamtrain/doc/service.yaml}" | json \
    "*(state['ingested'][key] for key in ('samples', 'duplicates', 'quarantined', 'lost_bytes'))"; }
holds() { [ "$(counts "${2:-}")" = "$1 0 0 0" ]; }
written=0
drop() { # so many more logs, by the user who writes them
    for _ in $(seq "$1"); do
        local name; name=$(printf 'log-%03d.jsonl' $((written / 500)))
        runuser -u writer -- install -m 640 "$WORK/logs/$name" "/var/log/streamtrain/.$name"
        runuser -u writer -- mv "/var/log/streamtrain/.$name" "/var/log/streamtrain/$name"
        written=$((written + 500))
    done
}
current() { readlink "/var/lib/${1:-streamtrain}/models/current"; }
page_answers() { python3 -c "import socket; socket.create_connection(('127.0.0.1', 9155), 10).close()"; }
restarted_since() { [ "$(property NRestarts)" -gt "$1" ] && [ "$(property ActiveState)" = active ]; }
said() { journalctl --no-pager -o cat _SYSTEMD_UNIT=streamtrain.service | grep -F "$1" > /dev/null; }
# How each run ended, by the unit itself: systemd-sandbox keeps no log of systemd's own.
ended() { grep -E "$1" /var/cache/streamtrain/ended; }
set_config() { cp "$WORK/newer/config/service.yaml" "$config"; printf '%s\n' "$1" >> "$config"; }
config=/etc/streamtrain/streamtrain.yaml
dropins=/run/systemd/system/streamtrain.service.d
mkdir -p "$dropins"
cat > "$dropins/ended.conf" <<'U'
[Service]
ExecStopPost=/usr/bin/sh -c 'echo "$$SERVICE_RESULT $$EXIT_STATUS" >> /var/cache/%N/ended'
U

step=install
make --no-print-directory -C "$WORK/older" install WHEELS="$WORK/older-wheels"
[ "$(streamtrain --version | grep -o '[0-9.]*$')" = 0.0.9 ]
done_with

step=verify
units='streamtrain.service streamtrain.socket streamtrain@chat.service streamtrain@chat.socket'
# shellcheck disable=SC2086
said=$(systemd-analyze verify $units 2>&1) || fail "$said"
[ -z "$said" ] || fail "$said"
for unit in streamtrain streamtrain@; do
    systemd-analyze security --offline=yes --no-pager --threshold=5 "/usr/local/lib/systemd/system/$unit.service" | tail -1
done
done_with

step=enable
systemctl enable --now streamtrain.service
[ "$(property ActiveState)" = active ]
[ "$(property ActiveState streamtrain.socket)" = active ]
page_answers
echo "status: $(property StatusText)"
done_with

step=publish
useradd --system --no-create-home --groups streamtrain-logs writer
useradd --system --no-create-home --groups streamtrain router
drop 6
until_true 300 current
until_true 300 holds 3000
echo '[0.8, 0.9, 0.7, 0.85, 0.2]' | runuser -u router -- streamtrain score /var/lib/streamtrain/models | json "state['confidence']"
done_with

step=permissions
! runuser -u router -- touch /var/lib/streamtrain/models/mine
! runuser -u router -- ls /var/lib/streamtrain/state
! runuser -u router -- ls /var/log/streamtrain
! runuser -u writer -- ls /var/lib/streamtrain/models
! runuser -u nobody -- ls /var/lib/streamtrain
! runuser -u nobody -- touch /var/log/streamtrain/other.jsonl
! runuser -u writer -- ls /var/cache/streamtrain
[ "$(stat -c %a /var/lib/streamtrain/state)" = 700 ]
[ "$(find /var/lib/streamtrain/models -type f -perm /007 | wc -l)" = 0 ]
[ "$(find /var/cache/streamtrain -name '*.nbi' | wc -l)" -gt 0 ] # kernels are kept
[ "$(find /var/lib/streamtrain /var/cache/streamtrain ! -user streamtrain | wc -l)" = 0 ]
main=$(property MainPID) # it has no network, no other processes and no homes
[ "$(readlink /proc/$main/ns/net)" != "$(readlink /proc/self/ns/net)" ]
[ ! -e /proc/$main/root/home ] && [ ! -e /proc/$main/root/root ] && [ ! -e /proc/$main/root/etc/shadow ]
done_with

step=reload
main=$(property MainPID)
set_config 'trigger: {min_new_samples: 400}' # the default is 500
systemctl reload streamtrain
until_true 300 said 'reloaded: watching'
receipts() { wc -l < /var/lib/streamtrain/models/receipts.jsonl; }
judged_again() { [ "$(receipts)" -gt "$before" ]; }
before=$(receipts); drop 1
until_true 300 judged_again # by the new trigger of 400 samples
set_config 'gate: {min_auc: 9}'
systemctl reload streamtrain
until_true 300 said 'refused and the old one stays'
said 'gate.min_auc = 9'
drop 1; until_true 300 holds 4000
[ "$(property MainPID)" = "$main" ] && [ "$(property ActiveState)" = active ]
set_config 'trigger: {min_new_samples: 400}'
systemctl reload streamtrain
page_answers
done_with

step=watchdog
printf '[Service]\nWatchdogSec=8s\n' > "$dropins/test.conf"
systemctl daemon-reload; systemctl restart streamtrain
n=$(property NRestarts)
kill -STOP "$(property MainPID)"
drop 1
page_answers
until_true 300 restarted_since "$n"
ended '^watchdog '
until_true 300 holds $written
rm "$dropins/test.conf"; systemctl daemon-reload; systemctl restart streamtrain
done_with

step=kill
for _ in 1 2 3; do
    n=$(property NRestarts); drop 1
    kill -KILL "$(property MainPID)"
    until_true 300 restarted_since "$n"
done
until_true 300 holds $written
done_with

step=out-of-memory
printf '[Service]\nMemoryHigh=infinity\nMemoryMax=60M\nMemorySwapMax=0\n' > "$dropins/test.conf"
systemctl daemon-reload
systemctl stop streamtrain; rm -f /var/cache/streamtrain/ended
systemctl start --no-block streamtrain
drop 1
killed() { ended '^(oom-kill .*|signal KILL)$' && [ "$(property NRestarts)" -gt 0 ]; } # "signal" under cgroup v1
until_true 300 killed
rm "$dropins/test.conf"; systemctl daemon-reload; systemctl restart streamtrain
until_true 300 holds $written
page_answers
done_with

step=stop
set_config 'trigger: {min_new_samples: 400}
training: {fine_tune_epochs: 2000000, early_stopping_patience: 0, fine_tune_learning_rate: 1.0e-9}'
systemctl restart streamtrain
drop 1
main=$(property MainPID)
ticks() { cut -d' ' -f14 "/proc/$main/stat"; }
busy() { local a b; a=$(ticks); sleep 1; b=$(ticks); [ $((b - a)) -gt 40 ] && holds $written; }
until_true 300 busy
busy
start=$(date +%s%N)
systemctl stop streamtrain
took_ms=$((($(date +%s%N) - start) / 1000000))
echo "stopped in the middle of training in $took_ms ms"
[ $took_ms -le 5000 ]
[ "$(property Result)" = success ] && [ "$(property ExecMainStatus)" = 0 ]
[ "$(property ActiveState streamtrain.socket)" = inactive ] # nor does a visitor start it again
set_config 'trigger: {min_new_samples: 400}'
systemctl start streamtrain
until_true 300 holds $written
done_with

step=upgrade
main=$(property MainPID)
grep -q /opt/streamtrain/release-1/ "/proc/$main/cmdline"
make --no-print-directory -C "$WORK/newer" install WHEELS="$WORK/newer-wheels"
[ "$(streamtrain --version | grep -o '[0-9.]*$')" != 0.0.9 ]
[ "$(property ActiveState)" = active ]
main=$(property MainPID)
grep -q /opt/streamtrain/release-2/ "/proc/$main/cmdline"
grep -q 'min_new_samples: 400' "$config"
drop 1; until_true 300 holds $written
page_answers
done_with

step=instance
cat > /etc/streamtrain/streamtrain@chat.yaml <<Y
logs: {directory: /var/log/streamtrain}
state: {directory: /var/lib/streamtrain@chat/state}
models: {directory: /var/lib/streamtrain@chat/models}
Y
systemctl enable --now streamtrain@chat.service
[ -S /run/streamtrain@chat.sock ]
until_true 300 current streamtrain@chat
until_true 300 holds "$written" /etc/streamtrain/streamtrain@chat.yaml
[ "$(property ActiveState)" = active ]
done_with

step=uninstall
make --no-print-directory -C "$WORK/newer" uninstall
[ "$(property LoadState)" = not-found ]
[ "$(property LoadState streamtrain@chat)" = not-found ]
! pgrep -u streamtrain
! command -v streamtrain
[ -z "$(find /opt/streamtrain /usr/local/lib/systemd /usr/local/lib/sysusers.d /usr/local/lib/tmpfiles.d /etc/systemd/system /run/streamtrain* \
    -name '*streamtrain*' 2>/dev/null)" ]
[ -e "$config" ] && [ -e /var/lib/streamtrain/models/current/manifest.json ] && [ -e /var/lib/streamtrain/state/state.db ]
done_with
