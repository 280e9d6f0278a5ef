#!/bin/bash
# An application, the service, and nginx or HAProxy with TLS in front of it, as plain processes, until Ctrl-C:
#
#   pip install -e '.[demo,examples]'
#   examples/tls/run.sh nginx        # or: haproxy
#
# The proxy's configuration is the one in deploy/, with TLS switched on and the ports of this machine. Then, in another terminal,
# what is printed. HTTPS_PORT, SERVICE_PORT and APP_PORT choose other ports.
set -euo pipefail
export HTTPS_PORT=${HTTPS_PORT:-8443} SERVICE_PORT=${SERVICE_PORT:-8080} APP_PORT=${APP_PORT:-5000}
export WEBHOOK_SECRET=${WEBHOOK_SECRET:-whsec_$(openssl rand -base64 32)} PATH="$PATH:/usr/sbin"
root=$(cd "$(dirname "$0")/../.." && pwd)
proxy=${1:?nginx or haproxy}
work=$(mktemp -d)
cd "$work"

end() {
    trap - EXIT
    kill $(jobs -p) 2>/dev/null || true
    wait
    rm -rf "$work"
}
trap end EXIT
trap 'exit 0' INT TERM

# Yours: a certificate that browsers believe.
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
    -keyout example.key -out example.pem 2>openssl.log

case $proxy in
    nginx)
        mkdir bodies
        {
            echo "daemon off; pid $work/nginx.pid; error_log stderr warn; events {} http { access_log off;"
            for kind in client_body proxy fastcgi uwsgi scgi; do echo "${kind}_temp_path $work/bodies/$kind;"; done
            sed -e "s/listen 80;/listen $HTTPS_PORT ssl;/" -e "s/10\.0\.0\.11:8080/127.0.0.1:$SERVICE_PORT/" -e '/10\.0\.0\.12/d' \
                -e "s!# \(ssl_certificate.*\) /etc/nginx/certificates/!\1 $work/!" "$root/deploy/nginx.conf"
            echo "}"
        } >nginx.conf
        start=(nginx -p "$work" -c "$work/nginx.conf")
        ;;
    haproxy)
        cat example.pem example.key >both.pem
        sed -e "s!bind :80\$!bind :$HTTPS_PORT ssl crt $work/both.pem alpn h2,http/1.1!" -e '/^ *server two/d' \
            -e "s/10\.0\.0\.11:8080/127.0.0.1:$SERVICE_PORT/" -e 's/maxconn 20000/maxconn 200/' "$root/deploy/haproxy.cfg" >haproxy.cfg
        start=(haproxy -db -f "$work/haproxy.cfg")
        ;;
    *)
        echo "nginx or haproxy?" >&2
        exit 2
        ;;
esac

python3 -m flask --app "$root/examples/flask/app.py" run --port "$APP_PORT" &
twistd -n --pidfile= resumable --config "$root/examples/tls/config.yaml" &
"${start[@]}" &

cat <<END
curl --cacert $work/example.pem -H "Authorization: Bearer alice-token" -T FILE https://localhost:$HTTPS_PORT/upload/NAME
END
# One of them has ended: the others end too.
wait -n
