#!/bin/sh
# Runs every fuzz target for SECONDS (default 60) and prints how often each was executed.
#   fuzz/run.sh 600            all of them, one after the other
#   fuzz/run.sh 20 tls sasl    only these
# Without nightly RUSTC_BOOTSTRAP=1 lets the stable compiler take the coverage flags. There is no
# unsafe code here for a sanitizer to watch, and without one the targets run several times faster.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# -gt 0 ] && shift
targets=${*:-$(sed -n 's/^name = "\(.*\)"$/\1/p' fuzz/Cargo.toml | grep -v pgwhy-fuzz)}
export RUSTC_BOOTSTRAP=1
FUZZ_SEEDS=fuzz/corpus cargo test --quiet --test replay seeds >/dev/null
cargo fuzz build --sanitizer none >/dev/null 2>&1 || cargo fuzz build --sanitizer none
bin=fuzz/target/$(rustc -vV | sed -n 's/^host: //p')/release
failed=0
for target in $targets; do
    case $target in
        sasl | bridge) words=sasl ;;
        conninfo | env_file | tokens) words=text ;;
        hba*) words=hba ;;
        serverlog | control_data) words=log ;;
        *) words=protocol ;;
    esac
    case $target in
        observer_* | capture_packets) longest=1024 ;;
        tls_opener) longest=4096 ;;
        *) longest=2048 ;;
    esac
    mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
    kept=tests/corpus/fuzz/$target
    [ -d "$kept" ] || kept=
    log=fuzz/artifacts/$target.log
    if "$bin/$target" "fuzz/corpus/$target" ${kept:+"$kept"} -dict=fuzz/dictionaries/$words.dict \
        -max_total_time="$seconds" -max_len=$longest -timeout=20 -rss_limit_mb=1024 \
        -artifact_prefix="fuzz/artifacts/$target/" -print_final_stats=1 >"$log" 2>&1; then
        verdict=clean
    else
        verdict="FAILED, see $log"
        failed=1
    fi
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    speed=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")
    printf '%-16s %12s executions %9s a second  %s\n' "$target" "${runs:-?}" "${speed:-?}" "$verdict"
done
exit $failed
