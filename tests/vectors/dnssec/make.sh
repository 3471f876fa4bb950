#!/bin/bash
# Makes `replies.txt` and `anchors.txt` anew: signs a small tree of zones with three signers, has
# NSD serve it on loopback, and writes down what it answers. Needs dnssec-keygen, dnssec-signzone
# and dnssec-dsfromkey (bind9-utils), ldns-keygen, ldns-signzone and ldns-key2ds (ldnsutils),
# kzonesign and keymgr (knot-dnssecutils), nsd, dig (bind9-dnsutils).
#
# The keys are new each time and thrown away: nothing depends on their values.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
port=5391
trap 'kill "$(cat "$work/nsd.pid" 2>/dev/null)" 2>/dev/null || true; sleep 1; rm -rf "$work"' EXIT
cd "$work"
mkdir zones
from=20260101000000 until=20900101000000

# The records that the rich zones have. $1 is the zone, $2 a name in another one.
rich() {
    cat <<ZONE
\$ORIGIN $1.
\$TTL 3600
@       SOA ns hostmaster 1 7200 3600 1209600 300
@       NS ns
@       MX 10 Mail.$1.
ns      A 192.0.2.53
www     A 192.0.2.1
www     A 192.0.2.2
www     AAAA 2001:db8::1
alias   CNAME www
away    CNAME $2
lost    CNAME nothere
out     CNAME www.unsigned.test.
a.ent   TXT "below an empty non-terminal"
*.wild  A 192.0.2.7
h.wild  A 192.0.2.8
*.walias CNAME www
tree    DNAME other
www.other A 192.0.2.9
srv     SRV 0 0 443 WWW.$1.
cut     NS ns.cut
ns.cut  A 192.0.2.54
ZONE
}

plain() {
    cat <<ZONE
\$ORIGIN $1.
\$TTL 3600
@       SOA ns hostmaster 1 7200 3600 1209600 300
@       NS ns
ns      A 192.0.2.53
www     A 192.0.2.1
*.wild  A 192.0.2.7
ZONE
}

# BIND's signer: bind ZONE ALGORITHM [more of dnssec-signzone]. With $window another time.
bind() {
    local zone=$1 algorithm=$2 bits=()
    shift 2
    case $algorithm in RSA*) bits=(-b 2048) ;; esac
    if [ ! -e "K.$zone.made" ]; then
        dnssec-keygen -q -a "$algorithm" "${bits[@]}" -f KSK "$zone" >> "K.$zone.made"
        dnssec-keygen -q -a "$algorithm" "${bits[@]}" "$zone" >> "K.$zone.made"
    fi
    finish_bind "$zone" "$@"
}

finish_bind() {
    local zone=$1
    shift
    dnssec-signzone -q -P -S -o "$zone" -f "zones/$zone.signed" ${window:--s $from -e $until} \
        "$@" "zones/$zone" > /dev/null 2> "sign.$zone.log" || { cat "sign.$zone.log"; exit 1; }
}

# ldns's signer: ldns ZONE ALGORITHM [more of ldns-signzone].
ldns() {
    local zone=$1 algorithm=$2 ksk zsk
    shift 2
    ksk=$(ldns-keygen -r /dev/urandom -k -a "$algorithm" -b 2048 "$zone.")
    zsk=$(ldns-keygen -r /dev/urandom -a "$algorithm" -b 2048 "$zone.")
    echo "$ksk" > "K.$zone.made"
    ldns-signzone -i $from -e $until -o "$zone." -f "zones/$zone.signed" "$@" \
        "zones/$zone" "$ksk" "$zsk"
}

# Knot's signer: knot ZONE ALGORITHM.
knot() {
    local zone=$1
    cat > knot.conf <<CONF
database:
    storage: "$work/kasp"
policy:
  - id: all
    algorithm: $2
    rrsig-lifetime: 700d
    rrsig-refresh: 30d
    rrsig-pre-refresh: 1d
zone:
  - domain: $zone.
    storage: "$work/zones"
    file: "$zone"
    dnssec-policy: all
CONF
    mkdir -p kasp knot.out
    kzonesign -c knot.conf -t "$(date -u -d "${from:0:8}" +%s)" -o "$work/knot.out" "$zone." > knot.log 2>&1
    mv "$work/knot.out/"* "zones/$zone.signed"
    keymgr -c knot.conf "$zone." ds > "dsset-$zone."
}

# The DS of a zone into the file that its parent includes: delegate ZONE DIGEST...
delegate() {
    local zone=$1 label=${1%%.*} digest
    shift
    echo "$label NS ns.$label" >> delegations
    echo "ns.$label A 192.0.2.53" >> delegations
    for digest in "$@"; do
        if [ -e "dsset-$zone." ] && [ ! -e "K.$zone.made" ]; then
            # Knot's, which writes all three digests.
            case $digest in SHA-256) grep -P ' \d+ \d+ 2 ' "dsset-$zone." ;; esac
        else
            ksk=$(grep -lE '257[[:space:]]3[[:space:]]' $(sed 's/$/.key/' "K.$zone.made"))
            for key in $ksk; do dnssec-dsfromkey -a "$digest" "$key"; done
        fi
    done >> delegations
}

# --- zones below nsec.test --------------------------------------------------------------------
for zone in child.nsec.test island.nsec.test; do
    plain $zone > zones/$zone
    bind $zone ECDSAP256SHA256
done
plain cut.nsec.test > zones/cut.nsec.test
plain cut.nsec3.test > zones/cut.nsec3.test
plain cut.optout.test > zones/cut.optout.test
plain cut.ed.test > zones/cut.ed.test

# --- zones below test -------------------------------------------------------------------------
: > delegations
delegate child.nsec.test SHA-256
echo "island NS ns.island" >> delegations
echo "ns.island A 192.0.2.53" >> delegations
{ rich nsec.test www.nsec3.test.; cat delegations; } > zones/nsec.test
bind nsec.test ECDSAP256SHA256
rich nsec3.test www.nsec.test. > zones/nsec3.test
ldns nsec3.test ECDSAP384SHA384 -n -t 5 -s aabbccdd
rich optout.test www.nsec.test. > zones/optout.test
bind optout.test RSASHA512 -3 - -H 0 -A
rich ed.test www.nsec.test. > zones/ed.test
knot ed.test ed25519

for zone in ed448 sha1 digest1 digest4 expired future badds nosig rollalg standby iter151 iter600 \
    unsigned bare odd; do
    plain $zone.test > zones/$zone.test
done
bind ed448.test ED448
ldns sha1.test RSASHA1-NSEC3-SHA1 -n
bind digest1.test ECDSAP256SHA256
bind digest4.test ECDSAP256SHA256
window="-s 20200101000000 -e 20210101000000" bind expired.test ECDSAP256SHA256
window="-s 20300101000000 -e 20310101000000" bind future.test ECDSAP256SHA256
bind badds.test ECDSAP256SHA256
cp zones/nosig.test zones/nosig.test.signed
cp zones/unsigned.test zones/unsigned.test.signed
bind bare.test ECDSAP256SHA256
bind odd.test ECDSAP256SHA256
ldns iter151.test ECDSAP256SHA256 -n -t 151
ldns iter600.test ECDSAP256SHA256 -n -t 600
for algorithm in RSASHA256 ECDSAP256SHA256; do
    bits=(); [ $algorithm = RSASHA256 ] && bits=(-b 2048)
    dnssec-keygen -q -a $algorithm "${bits[@]}" -f KSK rollalg.test >> K.rollalg.test.made
    dnssec-keygen -q -a $algorithm "${bits[@]}" rollalg.test >> K.rollalg.test.made
done
finish_bind rollalg.test
# A KSK that is published and does not sign yet, whose DS is in the parent before that of the other.
dnssec-keygen -q -a ECDSAP256SHA256 -f KSK -A none -P now standby.test >> K.standby.test.made
dnssec-keygen -q -a ECDSAP256SHA256 -f KSK standby.test >> K.standby.test.made
dnssec-keygen -q -a ECDSAP256SHA256 standby.test >> K.standby.test.made
finish_bind standby.test
: > delegations
delegate nsec.test SHA-256
delegate nsec3.test SHA-384
delegate optout.test SHA-256
delegate ed.test SHA-256
delegate ed448.test SHA-256
delegate sha1.test SHA-256
delegate digest1.test SHA-1
delegate digest4.test SHA-384
delegate expired.test SHA-256
delegate future.test SHA-256
delegate rollalg.test SHA-256
delegate standby.test SHA-256
delegate iter151.test SHA-256
delegate iter600.test SHA-256
delegate odd.test SHA-1 SHA-256
delegate unsigned.test
delegate bare.test
# The DS of a key that the zone has not got.
other=$(dnssec-keygen -q -a ECDSAP256SHA256 -f KSK badds.test)
printf 'badds NS ns.badds\nns.badds A 192.0.2.53\n' >> delegations
dnssec-dsfromkey -a SHA-256 "$other.key" >> delegations
other=$(dnssec-keygen -q -a ECDSAP256SHA256 -f KSK nosig.test)
printf 'nosig NS ns.nosig\nns.nosig A 192.0.2.53\n' >> delegations
dnssec-dsfromkey -a SHA-256 "$other.key" >> delegations
{
    printf '$ORIGIN test.\n$TTL 3600\n@ SOA ns hostmaster 1 7200 3600 1209600 300\n@ NS ns\n'
    printf 'ns A 192.0.2.53\nwww A 192.0.2.1\n*.wild A 192.0.2.7\n'
    cat delegations
} > zones/test
bind test RSASHA256 -3 - -H 0 -A

# --- the root ---------------------------------------------------------------------------------
: > delegations
delegate test SHA-256
{
    printf '$ORIGIN .\n$TTL 3600\n@ SOA ns.test. hostmaster.test. 1 7200 3600 1209600 300\n'
    printf '@ NS ns.test.\n'
    sed 's/^ns\.test A .*$/ns.test. A 192.0.2.53/' delegations
} > zones/.root
mv zones/.root zones/root
dnssec-keygen -q -a ECDSAP256SHA256 -f KSK . >> K.root.made
dnssec-keygen -q -a ECDSAP256SHA256 . >> K.root.made
dnssec-signzone -q -P -S -o . -f zones/root.signed -s $from -e $until zones/root > /dev/null 2>&1
# The file of the key that the parent of $1 points to, or an anchor.
entry() {
    grep -lE '257[[:space:]]3[[:space:]]' $(sed 's/$/.key/' "K.$1.made")
}
{
    echo "; The anchors of these vectors: the root, an island, and a zone whose parent has no DS."
    dnssec-dsfromkey -2 "$(entry root)"
    dnssec-dsfromkey -2 "$(entry island.nsec.test)"
    grep -v '^;' "$(entry bare.test)"
} > "$here/anchors.txt"

# --- serve and ask ----------------------------------------------------------------------------
{
    printf 'server:\n  ip-address: 127.0.0.1\n  port: %s\n  username: ""\n  chroot: ""\n' $port
    printf '  database: ""\n  zonesdir: "%s/zones"\n  pidfile: "%s/nsd.pid"\n' "$work" "$work"
    printf '  xfrdfile: "%s/xfrd"\n  zonelistfile: "%s/zonelist"\n' "$work" "$work"
    printf '  logfile: "%s/nsd.log"\n  minimal-responses: yes\n  nsid: ""\n' "$work"
    printf 'remote-control:\n  control-enable: no\n'
    for file in zones/*; do
        zone=${file#zones/}
        case $zone in *.signed) continue ;; esac
        served=$zone
        [ -e "$file.signed" ] && served=$zone.signed
        [ "$zone" = root ] && zone=.
        printf 'zone:\n  name: "%s"\n  zonefile: "%s"\n' "$zone" "$served"
    done
} > nsd.conf
sed -i '/nsid: ""/d' nsd.conf
nsd -c nsd.conf
sleep 2

{
    for zone in nsec nsec3 optout ed; do
        for name in "" www. alias. away. lost. out. ent. x.wild. a.b.wild. h.wild. x.h.wild. x.walias. \
            tree. www.tree. none.tree. srv. cut. nothere. deep.nothere. www.cut.; do
            echo "$name$zone.test A"
        done
        for name in "" www. ent. x.wild. nothere. cut. tree. out. srv.; do echo "$name$zone.test DS"; done
        for name in "" www. alias.; do echo "$name$zone.test MX"; done
        echo "www.$zone.test AAAA"; echo "www.other.$zone.test A"; echo "ent.$zone.test TXT"
        echo "srv.$zone.test SRV"; echo "x.wild.$zone.test TXT"; echo "$zone.test SOA"
        echo "$zone.test NS"; echo "$zone.test DNSKEY"; echo "www.$zone.test ANY"
        echo "www.$zone.test RRSIG"; echo "cut.$zone.test DNSKEY"; echo "www.cut.$zone.test DS"
    done
    for zone in ed448 sha1 digest1 digest4 expired future badds nosig rollalg standby iter151 iter600 \
        unsigned bare odd; do
        for name in "" www. nothere. x.wild.; do echo "$name$zone.test A"; done
        for name in "" www. nothere. wild. x.wild.; do echo "$name$zone.test DS"; done
        echo "$zone.test DNSKEY"; echo "www.$zone.test MX"
    done
    for zone in child island; do
        for name in "" www. nothere. x.wild.; do
            echo "$name$zone.nsec.test A"; echo "$name$zone.nsec.test DS"
        done
        echo "$zone.nsec.test DNSKEY"
    done
    for name in . test nothere.test www.test x.wild.test deep.nothere.test nothere deep.nothere; do
        echo "$name A"; echo "$name DS"
    done
    echo ". DNSKEY"; echo "test DNSKEY"; echo ". NS"; echo ". SOA"; echo "test SOA"
} | awk '!seen[$0]++' > questions
# tcp: nothing is truncated.
dig @127.0.0.1 -p $port +tcp +norec +dnssec +nocookie +nosplit +nostats +nocmd \
    +nottlunits -f questions > transcript
awk '
    /^;; ->>HEADER<<-/ { match($0, /status: [A-Z]+/); print ";; RCODE " substr($0, RSTART + 8, RLENGTH - 8) }
    /^;; (ANSWER|AUTHORITY) SECTION/ { print ";; " $2; keep = 1; next }
    /^;; QUESTION SECTION/ { question = 1; next }
    question { print ";; QUESTION " substr($1, 2) " " $3; question = 0; next }
    /^$/ || /^;/ { keep = 0; next }
    keep
' transcript | sed 's/[ \t]\+/ /g' > "$here/replies.txt"
wc "$here/replies.txt"
