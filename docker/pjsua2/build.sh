#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Builds pjsua2, pjproject's Python module, with our limits (config_site.h), patches and edge.c, and keeps the
# wheel in a cache outside the clone. The Makefile and the Dockerfile both call it; root is not needed.
set -euo pipefail
shopt -s inherit_errexit

usage() {
    cat <<'TEXT'
usage: build.sh --python PATH [--install | --print-key | --print-wheel]

  --python PATH   the interpreter that the wheel is for
  --install       install the wheel into that interpreter, unless it is there already
  --print-key     print the cache key and build nothing
  --print-wheel   print the wheel's path as the only line on standard output

environment:
  SIPIVR_CACHE        where wheels and sources are kept; otherwise sipivr/ in $XDG_CACHE_HOME or ~/.cache
  PJPROJECT_TARBALL   an upstream pjproject tarball to build from, instead of Debian's copy
  PJPROJECT_JOBS      compilers at once; otherwise one for each processor
TEXT
}

say() { printf 'pjsua2: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python='' install='' print=''
while (($#)); do
    case $1 in
        --python) python=${2:?--python needs a path}; shift ;;
        --install) install=yes ;;
        --print-key) print=key ;;
        --print-wheel) print=wheel ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done
[[ -n $python ]] || { usage >&2; exit 2; }
python=$(command -v "$python") || die "there is no such interpreter"
cache=${SIPIVR_CACHE:-${XDG_CACHE_HOME:-${HOME:?neither SIPIVR_CACHE nor HOME is set}/.cache}/sipivr}
tarball=${PJPROJECT_TARBALL:-}
[[ -z $tarball || -r $tarball ]] || die "PJPROJECT_TARBALL names no readable file: $tarball"

# --- The key: whatever changes the wheel changes its name ------------------------------------------------

accepted_sources() { grep -v '^#' "$here/pjproject.sha256"; }
version=$(accepted_sources | awk 'END { print $2 }')

inputs_digest() {
    {
        (cd "$here" && sha256sum build.sh config_site.h edge.c edge_lookup.c edge.h patches/*.patch)
        if [[ -n $tarball ]]; then sha256sum <"$tarball"; else accepted_sources; fi
        # A wheel links the libraries of its release.
        sed -n '/^ID=/p; /^VERSION_ID=/p' /etc/os-release 2>/dev/null || true
    } | sha256sum | cut -c 1-12
}
digest=$(inputs_digest)
build_version=$version+sipivr.$digest
# SOABI names version, build and machine: cpython-311-x86_64-linux-gnu.
soabi=$("$python" -I -S -c 'import sysconfig; print(sysconfig.get_config_var("SOABI"))')
key=pjsua2-$build_version-$soabi
wheel_dir=$cache/pjsua2/$key

cached_wheel() { compgen -G "$wheel_dir/*.whl" | head -n 1; }

# --- What a build needs ----------------------------------------------------------------------------------

has_header() { printf '#include <%s>\n' "$1" | "${CC:-cc}" -I"${2:-.}" -E -x c - >/dev/null 2>&1; }

# Asks for abilities, not for packages: the Python may not be Debian's, nor the compiler.
check_build_deps() {
    local missing=() include
    local -A command_of=([make]=build-essential [g++]=build-essential [patch]=build-essential [cc]=build-essential
        [swig]=swig [xz]=xz-utils)
    local -A header_of=([openssl/ssl.h]=libssl-dev [srtp2/srtp.h]=libsrtp2-dev [samplerate.h]=libsamplerate0-dev
        [opus/opus.h]=libopus-dev)
    for name in "${!command_of[@]}"; do
        command -v "$name" >/dev/null || missing+=("${command_of[$name]}")
    done
    for name in "${!header_of[@]}"; do
        has_header "$name" || missing+=("${header_of[$name]}")
    done
    include=$("$python" -I -S -c 'import sysconfig; print(sysconfig.get_path("include"))')
    [[ -r $include/Python.h ]] || missing+=(python3-dev)
    "$python" -I -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
    ((${#missing[@]} == 0)) || die "the build needs packages that are not here:" \
        "apt-get install $(printf '%s\n' "${missing[@]}" | sort -u | tr '\n' ' ')" \
        "(the whole list is in docker/pjsua2/build-deps.txt)"
}

# --- Running the long steps ------------------------------------------------------------------------------

# step TEXT COMMAND...: runs it with its output in a log, says how long it took, and shows the log's end if
# it fails. A sign of life every 20 s. The command has a process group of its own, so that an interrupted
# build leaves no compiler behind.
step() {
    local text=$1 log=$work/log started=$SECONDS next_sign=20 status=0
    shift
    say "$text ..."
    set -m
    "$@" >"$log" 2>&1 </dev/null &
    running=$!
    set +m
    while kill -0 "$running" 2>/dev/null; do
        sleep 0.2
        if ((SECONDS - started >= next_sign)); then
            say "  ... $((SECONDS - started)) s"
            ((next_sign += 20))
        fi
    done
    wait "$running" || status=$?
    running=''
    if ((status)); then
        tail -n 40 "$log" >&2
        die "failed after $((SECONDS - started)) s: $text.${hint:+ $hint}"
    fi
    say "  done in $((SECONDS - started)) s"
}

clean_up() {
    if [[ -n ${running:-} ]]; then
        kill -- "-$running" 2>/dev/null || true
        wait "$running" 2>/dev/null || true
    fi
    rm -rf "${work:?}"
}

# --- The source ------------------------------------------------------------------------------------------

how_to_go_on() {
    printf '%s' "Get pjproject-$version.tar.gz from the project's site (pjsip.org) or a mirror of your own," \
        " and run this again with PJPROJECT_TARBALL=/path/to/it."
}

# Where this machine's apt gets Debian from. indextargets knows only lists that were fetched; before the first
# "apt-get update" the addresses that it would use tell the same.
debian_site() {
    {
        apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian'
        apt-get --print-uris update | sed -n "/security/d; s#^'\(.*/\)dists/[a-z-]*/InRelease'.*#\1#p"
    } 2>/dev/null | awk 'NF && !found { print; found = 1 }'
}

# Debian sid's asterisk carries pjproject as the component Xpjproject. A private apt configuration fetches it:
# the machine's own lists and sources stay as they are, its proxies and credentials are used.
fetch_from_debian() {
    local target=$1 apt=$work/apt keyring site component sum
    command -v apt-get >/dev/null || die "there is no apt-get here to fetch pjproject with. $(how_to_go_on)"
    keyring=$(compgen -G '/usr/share/keyrings/debian-archive-keyring.*' | head -n 1) ||
        die "apt cannot check Debian's signature: apt-get install debian-archive-keyring"
    site=$(debian_site)
    [[ -n $site ]] || die "apt on this machine knows no Debian archive to fetch pjproject from. $(how_to_go_on)"
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/source"
    printf 'deb-src [signed-by=%s] %s sid main\n' "$keyring" "$site" >"$apt/sources.list"
    cat >"$apt/apt.conf" <<TEXT
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir::State::Lists "$apt/lists";
Dir::Cache "$apt/cache";
Dir::Etc::SourceList "$apt/sources.list";
Dir::Etc::SourceParts "-";
Acquire::Languages "none";
Acquire::Retries "2";
APT::Sandbox::User "root";
APT::Get::List-Cleanup "false";
APT::Update::Error-Mode "any";
TEXT
    local hint
    hint=$(how_to_go_on)
    step "fetching the list of Debian sid's sources" apt-get -c "$apt/apt.conf" update
    step "fetching pjproject $version with Debian's asterisk" \
        env -C "$apt/source" apt-get -c "$apt/apt.conf" source --download-only --only-source asterisk
    component=$(compgen -G "$apt/source/asterisk_*.orig-Xpjproject.tar.*" | head -n 1) ||
        die "Debian's asterisk does not carry pjproject any more. $(how_to_go_on)"
    sum=$(sha256sum <"$component" | cut -d ' ' -f 1)
    accepted_sources | grep -q "^$sum " ||
        die "Debian sid has moved on: its pjproject (${component##*/}) is not one that this version of sipivr" \
            "was tested with. $(how_to_go_on)"
    mv "$component" "$target"
}

# Leaves the path of the source archive in $archive.
find_source() {
    local sum
    if [[ -n $tarball ]]; then
        archive=$tarball
        return
    fi
    sum=$(accepted_sources | awk 'END { print $1 }')
    archive=$cache/pjsua2/source/pjproject-$version-${sum:0:12}.tar.xz
    if ! { [[ -r $archive ]] && sha256sum --status -c <<<"$sum  $archive"; }; then
        mkdir -p "${archive%/*}"
        fetch_from_debian "$work/source.tar"
        cp "$work/source.tar" "$archive.$$"
        mv "$archive.$$" "$archive"
    fi
}

# --- The build -------------------------------------------------------------------------------------------

# Asserts are a remote denial of service, so NDEBUG; the rest is what Debian builds its own daemons with.
hardening='-fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -Wformat -Werror=format-security'

configure_options=(
    --disable-video --disable-sound --disable-upnp --disable-libuuid --disable-resample
    --disable-libwebrtc --disable-libwebrtc-aec3 --disable-libyuv --disable-speex-codec --disable-speex-aec
    --disable-gsm-codec --disable-ilbc-codec --disable-g7221-codec
    --enable-epoll --enable-libsamplerate --with-external-srtp
)

unpack() {
    mkdir "$work/pjproject"
    tar -xf "$archive" -C "$work/pjproject" --strip-components=1
    cd "$work/pjproject"
    local found
    found=$(awk '/^export PJ_VERSION_M/ { printf "%s%s", dot, $NF; dot = "." }' version.mak)
    if [[ $found != "$version" ]]; then
        printf '%s\n' "this is pjproject $found, and the patches are for $version"
        return 1
    fi
    for patch in "$here"/patches/*.patch; do
        printf '%s\n' "${patch##*/}"
        patch -p1 --fuzz=0 --batch <"$patch"
    done
    cp "$here/config_site.h" pjlib/include/pj/config_site.h
    cp "$here/edge.c" pjsip-apps/src/swig/python/sipivr_edge.c
    cp "$here/edge_lookup.c" pjsip-apps/src/swig/python/sipivr_edge_lookup.c
    cp "$here/edge.h" pjsip-apps/src/swig/python/sipivr_edge.h
}

build_libraries() {
    cd "$work/pjproject"
    local flags="-O2 -g0 -fPIC -DNDEBUG $hardening -ffile-prefix-map=$work=."
    CFLAGS=$flags CXXFLAGS=$flags LDFLAGS='-Wl,-z,relro,-z,now' ./configure "${configure_options[@]}"
    make dep
    make -j"${PJPROJECT_JOBS:-$(nproc)}" lib
}

build_wheel() {
    "$python" -m venv "$work/venv"
    "$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check 'setuptools>=70.1'
    cd "$work/pjproject/pjsip-apps/src/swig/python"
    SIPIVR_BUILD_VERSION=$build_version make wheel PYTHON_EXE="$work/venv/bin/python"
}

build() {
    check_build_deps
    work=$(mktemp -d "${TMPDIR:-/tmp}/pjsua2-build.XXXXXX")
    trap clean_up EXIT
    find_source
    step "unpacking ${archive##*/} and patching it" unpack
    step "compiling pjproject (about 40 s on two cores)" build_libraries
    step "compiling the Python module (about 100 s)" build_wheel
    # Renamed into place when it is whole: whoever looks finds a finished wheel or none.
    rm -rf "$wheel_dir.new"
    mkdir "$wheel_dir.new"
    cp "$work"/pjproject/pjsip-apps/src/swig/python/dist/*.whl "$wheel_dir.new/"
    mv -T "$wheel_dir.new" "$wheel_dir"
    say "the wheel is in $wheel_dir"
}

is_installed() {
    local ask='import importlib.metadata as m; print(m.version("pjsua2"))'
    [[ $("$python" -I -c "$ask" 2>/dev/null) == "$build_version" ]]
}

# --- Main ------------------------------------------------------------------------------------------------

# A function, so that bash has read all of it: a pull may change this file while a build runs.
main() {
    local wheel lock
    if [[ $print == key ]]; then
        printf '%s\n' "$key"
        exit 0
    fi

    wheel=$(cached_wheel) || wheel=''
    if [[ -z $wheel ]]; then
        mkdir -p "$cache/pjsua2" || die "the cache cannot be written; set SIPIVR_CACHE to a directory of yours"
        exec {lock}>"$cache/pjsua2/$key.lock"
        flock --nonblock "$lock" || {
            say "another build of the same wheel is running; waiting for it ..."
            flock "$lock"
        }
        wheel=$(cached_wheel) || wheel=''
        [[ -n $wheel ]] || build
        wheel=$(cached_wheel)
    fi

    if [[ $print == wheel ]]; then
        printf '%s\n' "$wheel"
    elif [[ -z $install ]]; then
        say "built: $wheel"
    fi
    if [[ -n $install ]]; then
        if is_installed; then
            say "$build_version is installed"
        else
            "$python" -m pip install --quiet --disable-pip-version-check --no-deps --no-index "$wheel"
            say "installed $build_version"
        fi
    fi
    exit 0
}

main
