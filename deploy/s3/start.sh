#!/usr/bin/env bash
# Runs Ceph's RADOS Gateway on one folder, makes the user and the bucket with Object Lock where they are not there yet,
# and stops all of it in order on SIGTERM. The first start makes the store; later ones go on with it.
#
#   S3_DIR          the folder that holds everything
#   S3_BUCKET       the bucket
#   S3_ACCESS_KEY, S3_SECRET_KEY   the only user; the owner of the bucket
#   S3_LISTEN       address and port (0.0.0.0:7480)
#   S3_MON_PORT     port of the monitor on loopback (3300)
#   S3_SIZE         how large the store may become (100G); fixed by the first start, taken from the disk as it fills
set -euo pipefail
umask 077
dir=${S3_DIR:?} bucket=${S3_BUCKET:?} listen=${S3_LISTEN:-0.0.0.0:7480} mon=127.0.0.1:${S3_MON_PORT:-3300}
: "${S3_ACCESS_KEY:?}" "${S3_SECRET_KEY:?}"
url=http://127.0.0.1:${listen##*:}
unset CEPH_ARGS
export CEPH_CONF=$dir/ceph.conf

say() { echo "s3: $*" >&2; }
running=()
stop() {
    trap - TERM INT EXIT
    rm -f "$dir/run/ready"
    # The gateway first, the monitor last: each needs those that were started before it.
    local at
    for ((at = ${#running[@]} - 1; at >= 0; at--)); do
        kill "${running[at]}" 2>/dev/null || continue
        wait "${running[at]}" 2>/dev/null || true
    done
}
trap 'stop; exit 0' TERM INT
trap stop EXIT

start() {
    "$@" -f >&2 </dev/null &
    running+=($!)
}
# until_up NAME COMMAND…: waits for the daemon that was started last.
until_up() {
    local name=$1
    shift
    for _ in $(seq 600); do
        "$@" >/dev/null 2>&1 && return
        kill -0 "${running[-1]}" 2>/dev/null || break
        sleep 0.1
    done
    say "$name does not come up"
    exit 1
}
osd_is_up() { ceph --connect-timeout 20 osd stat | grep -q '1 up'; }
gateway_answers() { curl -fsS "$url/" | grep -q ListAllMyBuckets; }

configure() {
    cat >"$CEPH_CONF" <<CONF
[global]
fsid = $(cat "$dir/fsid")
mon host = [v2:$mon/0]
ms bind msgr1 = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1
keyring = $dir/keyring
run dir = $dir/run
admin socket = $dir/run/\$name.\$pid.asok
crash dir = $dir/run
log to file = false
log to stderr = true
err to stderr = true
mon cluster log to file = false
mon cluster log to stderr = false
# Only what goes wrong; a line for every request and every table written is for those who look for something.
debug mon = 0/5
debug osd = 0/5
debug rgw = 0/5
debug bdev = 0/5
debug bluefs = 0/5
debug bluestore = 0/5
debug rocksdb = 0/5
mon allow pool size one = true
osd pool default size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd crush chooseleaf type = 0
[mon]
mon data = $dir/mon
# With one monitor there is nobody to wait for.
paxos propose interval = 0.05
paxos min wait = 0.01
[osd]
osd data = $dir/osd
osd objectstore = bluestore
osd memory target = 1G
bluestore block size = ${S3_SIZE:-100G}
bluestore fsck on mkfs = false
[client]
rgw frontends = beast endpoint=$listen
rgw rados pool pg num min = 1
rgw run sync thread = false
CONF
}

# What a start that was interrupted left is no store: it is made anew until `made` stands.
make_store() {
    say "making a store in $dir"
    rm -rf "$dir"/{mon,osd,keyring,monmap,fsid}
    mkdir -p "$dir"/{mon,osd}
    local osd_id
    cat /proc/sys/kernel/random/uuid >"$dir/fsid"
    osd_id=$(cat /proc/sys/kernel/random/uuid)
    configure
    ceph-authtool "$dir/keyring" -C --gen-key -n mon. --cap mon 'allow *'
    ceph-authtool "$dir/keyring" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *'
    ceph-authtool "$dir/keyring" --gen-key -n osd.0 --cap mon 'allow profile osd' --cap osd 'allow *'
    ceph-authtool "$dir/keyring" --gen-key -n client.rgw --cap mon 'allow rwx' --cap osd 'allow rwx'
    monmaptool --create --fsid "$(cat "$dir/fsid")" --addv a "[v2:$mon/0]" "$dir/monmap"
    ceph-mon -i a --mkfs --monmap "$dir/monmap" --keyring "$dir/keyring"
    start ceph-mon -i a
    ceph-osd -i 0 --mkfs --osd-uuid "$osd_id"
    ceph --connect-timeout 30 osd new "$osd_id" 0
    touch "$dir/made"
}

# Credentials go to curl by its standard input, which no process list shows.
signed() {
    curl -sS --aws-sigv4 aws:amz:us-east-1:s3 -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' -K - "$@" <<<"user = \"$S3_ACCESS_KEY:$S3_SECRET_KEY\""
}

make_bucket() {
    radosgw-admin user info --uid=callvault >/dev/null 2>&1 ||
        radosgw-admin user create --uid=callvault --display-name=callvault >/dev/null
    # Also where the keys of an existing store were changed.
    radosgw-admin key create --uid=callvault --key-type=s3 \
        --access-key="$S3_ACCESS_KEY" --secret-key="$S3_SECRET_KEY" >/dev/null
    signed -o /dev/null -X PUT -H 'x-amz-bucket-object-lock-enabled: true' "$url/$bucket"
    signed "$url/$bucket?object-lock=" | grep -q '<ObjectLockEnabled>Enabled<' || {
        say "the bucket $bucket has no Object Lock: it can only be had by making the bucket with it; name another"
        exit 1
    }
}

mkdir -p "$dir/run"
rm -rf "$dir/run/"*
if [ -e "$dir/made" ]; then
    configure
    start ceph-mon -i a
else
    make_store >&2
fi
start ceph-osd -i 0
until_up ceph-osd osd_is_up
start radosgw -n client.rgw
until_up radosgw gateway_answers
make_bucket
touch "$dir/run/ready"
say "bucket $bucket with Object Lock on $listen"

# One that ends takes the others with it, and the container is started again.
wait -n "${running[@]}" || true
say "a daemon ended"
exit 1
