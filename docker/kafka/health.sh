#!/usr/bin/env bash
# Healthy = the broker answers an ApiVersions request. In bash, because a JVM per check would cost a second of CPU each.
set -eu
port=${EVALX_KAFKA_INTERNAL_PORT:-19092}
exec 3<>"/dev/tcp/127.0.0.1/$port"
# Length 10, key 18 (ApiVersions), version 0, correlation id 1, no client id.
printf '\x00\x00\x00\x0a\x00\x12\x00\x00\x00\x00\x00\x01\xff\xff' >&3
answer=$(head -c 10 <&3 | od -An -tx1 | tr -d ' \n')
# After the length: the correlation id and error code 0.
[ "${answer:8}" = 000000010000 ]
