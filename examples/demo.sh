#!/usr/bin/env bash
# A real project, built and run here as Lambda would run it: every step with its command and its time.
set -euo pipefail
cd "$(dirname "$0")/pandas-report"
export UV_NO_PROGRESS=1

say() { printf '\n\033[1m%s\033[0m\n' "$1"; }
[ -z "${NO_COLOR:-}" ] && [ -t 1 ] || say() { printf '\n%s\n' "$1"; }

step=0
summary=""

# A title, then the command: prints both, runs it, and keeps how long it took.
step() {
    local title=$1 began took
    shift
    step=$((step + 1))
    say "$step. $title"
    echo "\$ $*"
    began=$EPOCHREALTIME
    "$@"
    took=$(awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { printf "%8.2f s", b - a }')
    summary+="$took   $title"$'\n'
}

# Is there a Python of this version here? uv knows most places, pyenv its own.
have_python() {
    UV_PYTHON_DOWNLOADS=never uv python find --system --no-project "$1" >/dev/null 2>&1 && return
    compgen -G "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1.*/bin/python$1" >/dev/null
}

# The project's runtime is python3.13. Running it needs that Python: the one that is here, else one that uv
# fetches, else the newest Python of this machine stands in and the project is built for that.
choose_version() {
    have_python 3.13 && echo 3.13 && return
    UV_HTTP_RETRIES=0 UV_HTTP_TIMEOUT=20 timeout 120 uv python install --quiet 3.13 2>/dev/null && echo 3.13 && return
    local version
    for version in 3.14 3.12 3.11 3.10 3.9; do
        have_python $version && echo $version && return
    done
    echo "error: no Python from 3.9 to 3.14 found to run a function with" >&2
    return 1
}

version=$(choose_version)
runtime=()
echo "lading $(lading --version | cut -d' ' -f2), project: examples/pandas-report (pandas + requests + boto3)"
if [ "$version" = 3.13 ]; then
    echo "runtime: python3.13, as the project says"
else
    echo "runtime: python$version, the newest Python of this machine (the project says 3.13, which is not here and could not be fetched)"
    runtime=(--runtime "python$version")
fi

step "Build: resolve for Lambda, download, compile, pack, audit" lading build "${runtime[@]}"
step "Check the finished zip: would it import on Lambda?" lading check dist/pandas-report.zip
step "Invoke in an isolated environment, cold, then warm: results and logs" lading invoke -e event.json --count 2 -v "${runtime[@]}"
step "Invoke again and again: how long" lading invoke -e event.json --count 20 "${runtime[@]}"
step "Build again: nothing changed" lading build "${runtime[@]}"

say "What took how long"
printf '%s' "$summary"
