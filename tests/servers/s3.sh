#!/usr/bin/env bash
# A throw-away S3 server with Object Lock on loopback: Ceph's RADOS Gateway with one monitor and one OSD that keeps
# everything in memory. Runs as root and as anybody else.
#
#   s3.sh start FOLDER   makes FOLDER, which must not be there, and prints what to export: S3_ENDPOINT and credentials,
#                        and S3_CEPH_CONF, with which a test can start a gateway of its own on the same cluster
#   s3.sh stop FOLDER    ends what was started there, by its process ids
set -euo pipefail

usage() { sed -n '5,7s/^# *//p' "$0" >&2; exit 2; }
[ $# = 2 ] || usage
folder=$2
export CEPH_CONF=$folder/ceph.conf
unset CEPH_ARGS

alive() { # pid: a zombie is not
    kill -0 "$1" 2>/dev/null && ! grep -qs '^State:.Z' "/proc/$1/status"
}

free_port() { # below those that the system hands out by itself
    local port
    while :; do
        port=$((10000 + RANDOM % 20000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
}

launch() { # name command…
    local name=$1
    shift
    setsid "$@" >>"$folder/log/$name.out" 2>&1 </dev/null &
    echo $! >"$folder/$name.pid"
}

await() { # name command…: until the command is content, as long as the process lives
    local name=$1 pid
    pid=$(cat "$folder/$name.pid")
    shift
    for _ in $(seq 600); do
        "$@" >/dev/null 2>&1 && return
        alive "$pid" || return 1
        sleep 0.05
    done
    return 1
}

configure() {
    local keyring=$folder/keyring key
    monitor=$(free_port)
    gateway=$(free_port)
    cluster=$(cat /proc/sys/kernel/random/uuid)
    cat >"$CEPH_CONF" <<CONF
[global]
fsid = $cluster
mon host = [v2:127.0.0.1:$monitor/0]
ms bind msgr1 = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1
keyring = $keyring
run dir = $folder/run
admin socket = $folder/run/\$name.\$pid.asok
log file = $folder/log/\$name.log
crash dir = $folder/log
mon allow pool size one = true
mon data avail crit = 0
osd pool default size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd crush chooseleaf type = 0
[mon]
mon data = $folder/mon
mon cluster log file = $folder/log/cluster.log
# Otherwise every pool costs a second.
paxos propose interval = 0.05
paxos min wait = 0.01
[osd]
osd data = $folder/osd
osd objectstore = memstore
osd memory target = 1G
memstore device bytes = 4G
[client]
# Without tcp_nodelay, half of all answers wait 40 ms for an acknowledgement.
rgw frontends = beast endpoint=127.0.0.1:$gateway tcp_nodelay=1
rgw thread pool size = 64
rgw rados pool pg num min = 1
rgw run sync thread = false
CONF
    key="ceph-authtool $keyring --gen-key -n"
    ceph-authtool --create-keyring "$keyring"
    $key mon. --cap mon 'allow *'
    $key client.admin --cap mon 'allow *' --cap osd 'allow *'
    $key osd.0 --cap mon 'allow profile osd' --cap osd 'allow *'
    $key client.rgw --cap mon 'allow rwx' --cap osd 'allow rwx'
}

cluster_up() {
    local disk
    monmaptool --create --fsid "$cluster" --addv a "[v2:127.0.0.1:$monitor/0]" "$folder/monmap"
    ceph-mon -i a --mkfs --monmap "$folder/monmap" --keyring "$folder/keyring"
    launch mon ceph-mon -i a -f
    # A port that somebody else has meanwhile ends the monitor.
    await mon ceph --connect-timeout 5 mon stat || return 1
    disk=$(cat /proc/sys/kernel/random/uuid)
    ceph-osd -i 0 --mkfs --osd-uuid "$disk"
    ceph --connect-timeout 20 osd new "$disk" 0
    launch osd ceph-osd -i 0 -f
    await osd osd_is_up
}

osd_is_up() { ceph --connect-timeout 20 osd stat | grep -q '1 up'; }

answers() { curl -fs "http://127.0.0.1:$gateway/" | grep -q ListAllMyBuckets; }

gateway_up() {
    radosgw-admin user create --uid=tests --display-name=tests --access-key="$access" --secret-key="$secret"
    launch gateway radosgw -n client.rgw -f
    # Anything can answer on a port.
    await gateway answers
}

start() {
    mkdir "$folder"
    mkdir "$folder"/{mon,osd,run,log}
    access=callvault-tests
    secret=$(head -c 24 /dev/urandom | base64 | tr '+/' 'ab')
    if ! { configure && cluster_up && gateway_up; } >"$folder/log/start.out" 2>&1; then
        echo "the S3 server did not start:" >&2
        tail -n 5 "$folder"/log/start.out >&2
        tail -n 5 "$folder"/log/*.log >&2
        stop
        return 1
    fi
    echo "export S3_ENDPOINT=http://127.0.0.1:$gateway S3_CEPH_CONF=$CEPH_CONF"
    echo "export AWS_ACCESS_KEY_ID=$access AWS_SECRET_ACCESS_KEY=$secret AWS_EC2_METADATA_DISABLED=true"
}

stop() {
    local name pid
    for name in gateway osd mon; do
        pid=$(cat "$folder/$name.pid" 2>/dev/null) || continue
        # Another process may have the number by now.
        if tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qE '^(radosgw|ceph-osd|ceph-mon) '; then
            kill -CONT "$pid" 2>/dev/null || true
            kill "$pid" 2>/dev/null || true
            for _ in $(seq 250); do
                alive "$pid" || break
                sleep 0.02
            done
            alive "$pid" && kill -9 "$pid"
        fi
        rm -f "$folder/$name.pid"
    done
}

case $1 in
    start) start ;;
    stop) stop ;;
    *) usage ;;
esac
