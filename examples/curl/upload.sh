#!/bin/sh
# Upload a file with curl, and go on by itself where it broke off:
#
#   examples/curl/upload.sh FILE URL [CURL OPTIONS]
#   examples/curl/upload.sh film.mp4 http://127.0.0.1:8080/upload/film.mp4 -H "Authorization: Bearer alice-token"
#
# To see it break off and go on: --limit-rate 5M --max-time 10. The same command after Ctrl-C goes on too: the URL stands for this
# file, so do not send another one to it before this one is finished.
set -eu
if [ $# -lt 2 ]; then
    echo "usage: upload.sh FILE URL [CURL OPTIONS]" >&2
    exit 2
fi
file=$1 url=$2
shift 2
size=$(($(wc -c <"$file")))
answer=$(mktemp)
trap 'rm -f "$answer" "$answer.head"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

request() { # CURL OPTIONS... -- sets status; 000 where no answer came
    : >"$answer" >"$answer.head"
    # -g: brackets in the name of a file are no pattern
    status=$(curl -gsS -o "$answer" -D "$answer.head" -w '%{http_code}' "$@") || true
    case $status in 100) status=000 ;; esac
}

finish_if_final() {
    case $status in
        200) cat "$answer" && exit 0 ;;
        # asking again would change nothing
        400 | 401 | 403 | 405 | 409 | 411 | 412 | 413 | 414 | 415 | 431) cat "$answer" >&2 && exit 1 ;;
    esac
}

pause=1 before=0 sent=
while :; do
    # How far is it? 308 tells, 404 knows nothing of it. 200 is the result: of this file, if it has been sent here.
    request "$@" -X PUT -H "Content-Range: bytes */$size" "$url"
    if [ "$status" != 200 ] || [ -n "$sent" ]; then finish_if_final; fi
    case $status in
        200 | 308 | 404)
            stored=$(sed -n 's/^[Rr]ange: bytes=0-\([0-9]*\).*/\1/p' "$answer.head")
            offset=$((${stored:--1} + 1))
            if [ "$offset" -gt "$before" ]; then pause=1 before=$offset; fi
            # With -C curl sends the rest of the file, and says which part that is (Content-Range).
            from=
            if [ "$offset" -gt 0 ]; then
                from="-C $offset"
                echo "going on at byte $offset" >&2
            fi
            sent=yes
            # shellcheck disable=SC2086 # two words, or none
            request "$@" $from -T "$file" "$url"
            finish_if_final
            ;;
    esac
    echo "broken off (status $status); asking again in $pause s" >&2
    sleep "$pause"
    pause=$((pause * 2 > 60 ? 60 : pause * 2))
done
