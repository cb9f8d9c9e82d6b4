#!/usr/bin/env bash
# Healthy = it answers on /-/ready. In bash, since the image has nothing else that speaks HTTP.
set -eu
exec 3<>/dev/tcp/127.0.0.1/9090
printf 'GET /-/ready HTTP/1.0\r\n\r\n' >&3
read -r _ status _ <&3
[ "$status" = 200 ]
