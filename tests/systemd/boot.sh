# What an operator does, under the systemd that systemd-sandbox booted. Run by test_service.py, which reads $WORK/steps: the
# names of the steps that were done. $WORK has the trees `older` and `newer`, their wheels, page.py, and logs of 500 lines
# each.
set -eEuo pipefail
step=start
exec 2>&1
began=$SECONDS
done_with() { echo "$step" >> "$WORK/steps"; echo "== $step: done at $((SECONDS - began)) s"; }
trap 'echo "== $step failed in line $LINENO: $BASH_COMMAND"; systemctl status --no-pager -l -n 5 "streamtrain*" || true
      journalctl --no-pager -o cat -n 80 _SYSTEMD_UNIT=streamtrain.service + UNIT=streamtrain.service + _SYSTEMD_UNIT=streamtrain@chat.service + UNIT=streamtrain@chat.service' ERR

fail() { echo "$*"; false; }
not() { if "$@"; then fail "done, and should not be: $*"; fi; } # `! COMMAND` alone is no check: set -e overlooks it
until_true() { # SECONDS COMMAND...
    local end=$((SECONDS + $1)); shift
    until "$@" > /dev/null 2>&1; do [ $SECONDS -lt $end ] || { "$@" || fail "in vain: $*"; break; }; sleep 0.2; done
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
page() { local what=$1; shift; python3 "$WORK/page.py" "$what" 127.0.0.1:9155 "$@"; }
# By HTTP: the page, its JSON and the metrics all say how much was read and what is current; and what is refused, if anything.
page_shows() { page shows "$written" "$(basename "$(current)")" "${1:-}"; }
page_answers() { until_true 300 page_shows "$@"; }
restarted_since() { [ "$(property NRestarts)" -gt "$1" ] && [ "$(property ActiveState)" = active ]; }
said() { journalctl --no-pager -o cat _SYSTEMD_UNIT=streamtrain.service | grep -F "$1" > /dev/null; }
# How each run ended, by the unit itself: systemd-sandbox keeps no log of systemd's own.
ends=/var/cache/streamtrain/ended
ended() { tail -n +$((n_ends + 1)) $ends | grep -E "$1"; }
set_config() { cp "$WORK/newer/config/service.yaml" "$config"; printf '%s\n' "$1" >> "$config"; }
config=/etc/streamtrain/streamtrain.yaml
dropins=/run/systemd/system/streamtrain.service.d
mkdir -p "$dropins"
# A visitor who comes again and again, whatever happens to the service. Where it is stopped on purpose, the page closes.
visits=$WORK/visits
page_closes() { touch $visits.closed; }
page_is_open() { rm -f $visits.closed; }
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
python3 "$WORK/page.py" watch 127.0.0.1:9155 $visits &
visitor=$!
echo "status: $(property StatusText)"
done_with

step=publish
useradd --system --no-create-home --groups streamtrain-logs writer
useradd --system --no-create-home --groups streamtrain router
drop 6
until_true 300 current
until_true 300 holds 3000
page_answers
echo '[0.8, 0.9, 0.7, 0.85, 0.2]' | runuser -u router -- streamtrain score /var/lib/streamtrain/models | json "state['confidence']"
done_with

step=permissions
not runuser -u router -- touch /var/lib/streamtrain/models/mine
not runuser -u router -- ls /var/lib/streamtrain/state
not runuser -u router -- ls /var/log/streamtrain
not runuser -u writer -- ls /var/lib/streamtrain/models
not runuser -u nobody -- ls /var/lib/streamtrain
not runuser -u nobody -- touch /var/log/streamtrain/other.jsonl
not runuser -u writer -- ls /var/cache/streamtrain
[ "$(stat -c %a /var/lib/streamtrain/state)" = 700 ]
[ "$(find /var/lib/streamtrain/models -type f -perm /007 | wc -l)" = 0 ]
[ "$(find /var/cache/streamtrain -name '*.nbi' | wc -l)" -gt 0 ] # kernels are kept
[ "$(find /var/lib/streamtrain /var/cache/streamtrain ! -user streamtrain | wc -l)" = 0 ]
main=$(property MainPID) # it has no network, no other processes and no homes
[ "$(readlink /proc/$main/ns/net)" != "$(readlink /proc/self/ns/net)" ]
seen() { ls -A "/proc/$main/root/$1" 2>/dev/null || true; }
for hidden in home root etc/shadow; do [ -z "$(seen $hidden)" ]; done
[ -n "$(seen etc/passwd)" ]
done_with

step=reload
main=$(property MainPID)
set_config 'trigger: {min_new_samples: 400}' # the default is 500
systemctl reload streamtrain
until_true 300 said reloaded
receipts() { wc -l < /var/lib/streamtrain/models/receipts.jsonl; }
judged_again() { [ "$(receipts)" -gt "$before" ]; }
before=$(receipts); drop 1
until_true 300 judged_again # by the new trigger of 400 samples
set_config 'gate: {min_auc: 9}'
systemctl reload streamtrain
until_true 300 said 'refused and the old one stays'
said 'gate.min_auc = 9'
drop 1; until_true 300 holds 4000
# Other things were told since, and the refusal still is.
tells_refusal() {
    property StatusText | grep -F 'the old one stays' | grep -F 'gate.min_auc = 9' &&
        command_of status --json --config /opt/streamtrain/doc/service.yaml | json "state['refused_configuration']['reason']" | grep -F 'gate.min_auc = 9'
}
status_counts() { property StatusText | grep -F "$1 samples"; }
until_true 300 status_counts 4,000
tells_refusal
page_answers 'gate.min_auc = 9'
[ "$(property MainPID)" = "$main" ]
[ "$(property ActiveState)" = active ]
set_config 'trigger: {min_new_samples: 400}'
systemctl reload streamtrain
refusal_is_over() { ! property StatusText | grep -F 'the old one stays'; }
until_true 300 refusal_is_over
[ "$(command_of status --json --config "$config" | json "state['refused_configuration']")" = None ]
page_answers
done_with

step=secrets
streamtrain keygen /etc/streamtrain/signing.key
[ "$(stat -c '%a %U' /etc/streamtrain/signing.key)" = '600 root' ]
credential=/run/credentials/streamtrain.service/signing.key
set_config "publish: {signing_key: $credential}
status: {textfile: /run/streamtrain/streamtrain.prom}
gate: {versus_current: 'off'}
trigger: {min_new_samples: 400}"
printf '[Service]\nLoadCredential=signing.key:/etc/streamtrain/signing.key\n' > "$dropins/test.conf"
systemctl daemon-reload; systemctl restart streamtrain
measured() { runuser -u nobody -- grep -F "streamtrain_samples_total{router=\"\"} $written.0" /run/streamtrain/streamtrain.prom; }
until_true 300 measured
before=$(receipts); drop 1
until_true 300 judged_again
until_true 300 holds $written
[ -s /var/lib/streamtrain/models/current/manifest.json.sig ]
echo '[0.8, 0.9, 0.7, 0.85, 0.2]' | runuser -u router -- streamtrain score --public-key /etc/streamtrain/signing.key.pub /var/lib/streamtrain/models \
    | json "state['confidence']"
for user in router writer nobody; do
    not runuser -u $user -- cat /etc/streamtrain/signing.key
    not runuser -u $user -- cat $credential
done
page_answers
set_config 'trigger: {min_new_samples: 400}'
rm "$dropins/test.conf"; systemctl daemon-reload; systemctl restart streamtrain
done_with

step=watchdog
printf '[Service]\nWatchdogSec=8s\n' > "$dropins/test.conf"
systemctl daemon-reload; systemctl restart streamtrain
n=$(property NRestarts); n_ends=$(wc -l < $ends)
kill -STOP "$(property MainPID)"
drop 1
page answers & # waits, and is answered by the next process
asked=$!
until_true 300 restarted_since "$n"
ended '^watchdog '
until_true 300 holds $written
wait $asked
page_answers
rm "$dropins/test.conf"; systemctl daemon-reload; systemctl restart streamtrain
done_with

step=kill
for _ in 1 2 3; do
    n=$(property NRestarts); drop 1
    kill -KILL "$(property MainPID)"
    until_true 300 restarted_since "$n"
done
until_true 300 holds $written
page_answers
done_with

step=out-of-memory
printf '[Service]\nMemoryHigh=infinity\nMemoryMax=60M\nMemorySwapMax=0\n' > "$dropins/test.conf"
systemctl daemon-reload
page_closes
systemctl stop streamtrain
n_ends=$(wc -l < $ends)
systemctl start --no-block streamtrain
drop 1
killed() { ended '^(oom-kill .*|signal KILL)$' && [ "$(property NRestarts)" -gt 0 ]; } # "signal" under cgroup v1
until_true 300 killed
ended '^(oom-kill|signal) ' | sort | uniq -c
rm "$dropins/test.conf"; systemctl daemon-reload; systemctl restart streamtrain
page_is_open
until_true 300 holds $written
page_answers
done_with

step=stop
endless='training: {fine_tune_epochs: 2000000, early_stopping_patience: 0, fine_tune_learning_rate: 1.0e-9}'
epoch() { property StatusText | sed -n 's/.*; training .*, epoch \([0-9]*\),.*/\1/p'; }
trains() { local a b; a=$(epoch); sleep 2; b=$(epoch); [ "${b:-0}" -gt "${a:-0}" ]; }
for try in 1 2 3; do # one of which must be in time, on a machine that may be busy
    set_config "$(printf 'trigger: {min_new_samples: 400}\n%s' "$endless")"
    systemctl restart streamtrain
    page_is_open
    drop 1
    until_true 300 holds $written
    until_true 300 trains
    page_closes
    start=$(date +%s%N)
    systemctl stop streamtrain
    took_ms=$((($(date +%s%N) - start) / 1000000))
    echo "stopped in the middle of training in $took_ms ms"
    [ "$(property Result)" = success ]
    [ "$(property ExecMainStatus)" = 0 ]
    page refuses # nor does a visitor start it again
    [ "$(property ActiveState streamtrain.socket)" = inactive ]
    if [ $took_ms -le 5000 ]; then break; fi
    [ "$try" -lt 3 ]
done
set_config 'trigger: {min_new_samples: 400}'
systemctl start streamtrain
page_is_open
until_true 300 holds $written
page_answers
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
chat_page_shows() { python3 "$WORK/page.py" shows /run/streamtrain@chat.sock "$written" "$(basename "$(current streamtrain@chat)")" ""; }
until_true 300 chat_page_shows
page_answers
[ "$(property ActiveState)" = active ]
done_with

step=page
kill $visitor; wait $visitor
python3 "$WORK/page.py" tell $visits "$(wc -l < $ends)"
done_with

step=uninstall
make --no-print-directory -C "$WORK/newer" uninstall
[ "$(property LoadState)" = not-found ]
[ "$(property LoadState streamtrain@chat)" = not-found ]
not pgrep -u streamtrain
hash -r
not command -v streamtrain
left=$(find /opt /usr/local /etc/systemd /run -path /run/systemd -prune -o -name '*streamtrain*' -print)
[ -z "$left" ] || fail "$left"
for kept in "$config" /var/lib/streamtrain/models/current/manifest.json /var/lib/streamtrain/state/state.db; do [ -e $kept ]; done
done_with
