#!/usr/bin/env bash
# Starts what docker-compose.yml starts, as plain processes: Redis, three
# replicas and a load balancer, on this machine only. Needs Go and redis-server.
#
#   deploy/local.sh            balancer on 127.0.0.1:8080, replicas on the next three ports
#   PORT=9000 deploy/local.sh
#
# Ctrl-C, SIGTERM, or the end of any of them ends them all. BALANCER=go or
# BALANCER=haproxy chooses the balancer; by default haproxy where it is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

port=${PORT:-8080}
if [ -z "${BALANCER:-}" ]; then
  if command -v haproxy >/dev/null; then BALANCER=haproxy; else BALANCER=go; fi
fi

dir=$(mktemp -d)
pids=()
end() {
  trap - EXIT INT TERM
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$dir"
}
trap end EXIT
trap 'exit 0' INT TERM

CGO_ENABLED=0 go build -o "$dir" . ./deploy/balancer

redis-server --port 0 --unixsocket "$dir/redis.sock" --dir "$dir" --appendonly yes --appendfsync everysec \
  --maxmemory-policy noeviction --save "" --logfile "$dir/redis.log" &
pids+=($!)

export REDIS_URL="unix://$dir/redis.sock" ROUTER_TRUSTED_CIDR=127.0.0.1/32 ROUTER_ADMIN_KEY=${ROUTER_ADMIN_KEY:-operator}
for i in 1 2 3; do
  ROUTER_LISTEN="127.0.0.1:$((port + i))" "$dir/inference-router" serve -config deploy/compose/router.yaml &
  pids+=($!)
  export "REPLICA_$i=127.0.0.1:$((port + i))"
done

export BALANCER_LISTEN="127.0.0.1:$port"
case $BALANCER in
  haproxy) haproxy -db -f deploy/compose/haproxy.cfg & ;;
  go) "$dir/balancer" & ;;
  *) echo "BALANCER is go or haproxy, not $BALANCER" >&2; exit 2 ;;
esac
pids+=($!)

# up waits until the server on that port is ready, while all processes run.
up() {
  for _ in $(seq 200); do
    if curl -sf -o /dev/null "http://127.0.0.1:$1/readyz"; then return; fi
    for pid in "${pids[@]}"; do kill -0 "$pid" 2>/dev/null || exit 1; done
    sleep 0.1
  done
  echo "nothing answers on port $1" >&2
  exit 1
}
for p in $((port + 1)) $((port + 2)) $((port + 3)) "$port"; do up "$p"; done
echo "ready: http://127.0.0.1:$port/v1 (dashboard http://127.0.0.1:$port/dashboard)"

wait -n "${pids[@]}" || true
echo "one of the processes has ended; ending the others" >&2
exit 1
