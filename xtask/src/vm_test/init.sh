#!/bin/busybox sh
# The guest's only program: runs sessions and prints what they say. Each file follows a line `### NAME`; the last line is
# `### done`. The host judges.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
stty -F "$OUTPUT" raw
exec >"$OUTPUT" 2>&1
cd /tmp || exit

show() {
    echo "### $1"
    cat "$2"
}

# wait_for PATTERN FILE: until the file has such a line, for a minute at most.
wait_for() {
    tries=0
    until grep -q "$1" "$2"; do
        tries=$((tries + 1))
        [ $tries -lt 300 ] || return 1
        sleep 0.2
    done
}

# pages FILE FROM TO: a checksum of these bytes, which begin and end with pages.
pages() {
    dd if="$1" bs=4096 skip=$(($2 / 4096)) count=$((($3 - $2) / 4096)) 2>/dev/null | md5sum
}

# code WHEN: a checksum of the target's code as it is in memory now, or in its file.
code() {
    line=$(grep ' r-xp .*/bin/' /proc/$target/maps | head -n 1)
    range=${line%% *}
    from=0x${range%-*}
    to=0x${range#*-}
    offset=0x$(echo "$line" | cut -d ' ' -f 3)
    case $1 in
    file) sum=$(pages "/proc/$target/exe" $((offset)) $((offset + to - from))) ;;
    *) sum=$(pages "/proc/$target/mem" $((from)) $((to))) ;;
    esac
    echo "$1 ${sum%% *}" >>code
}

# start PROGRAM ARGS: a target that says that it is ready, then loopprobe with $options.
start() {
    rm -f in code
    mkfifo in
    : >truth
    : >events
    "$@" <in >truth &
    target=$!
    exec 3>in
    wait_for '"ready"' truth
    code file
    code before
    loopprobe attach --pid $target --format json $options >events 2>errors &
    probe=$!
    wait_for '"session"' events
    code during
}

# detach NAME: as Ctrl-C does. Then the target is told to end.
detach() {
    kill -INT $probe
    wait $probe
    echo "loopprobe $?" >exits
    code after
    echo quit >&3
    exec 3>&-
    [ "$1" = stuck ] && kill $target
    wait $target
    echo "target $?" >>exits
    for file in truth events errors code exits; do
        show "$1/$file" $file
    done
}

uname -r >release
show release release
loopprobe doctor >doctor
echo "doctor $?" >exits
show doctor doctor
show doctor/exits exits

for scenario in $(echo "$SCENARIOS" | tr , ' '); do
    work=$scenario
    program=truth
    rounds=8
    options=
    [ $scenario = sleep ] && options=--lag
    [ $scenario = light ] && work=sleep && options=--light
    [ $scenario = watch ] && work=sleep && options='--mode watch'
    # Long enough for a look to begin, and to see something.
    [ $scenario = auto ] && work=cpu && rounds=600 && options='--mode auto'
    [ $scenario = stripped ] && work=sleep && program=truth-stripped
    start $program $work --gate inside --hold --rounds $rounds
    echo go >&3
    wait_for '"end"' truth
    detach $scenario
done
options=

start stuck block --millis 60000
wait_for '"long_poll"' events
detach stuck

# Where threads cannot be watched, that must be said.
case ",$SCENARIOS," in
*,watch,*) ;;
*)
    stuck block --millis 60000 >truth &
    target=$!
    wait_for '"ready"' truth
    for mode in watch auto; do
        loopprobe attach --pid $target --mode $mode --duration 1s >events 2>errors
        echo "loopprobe $?" >exits
        show refused-$mode/errors errors
        show refused-$mode/exits exits
    done
    kill $target
    ;;
esac

echo "### done"
poweroff -f
