#!/usr/bin/env bash
# Formats the data directory at the first start, then becomes the broker.
#
#   EVALX_KAFKA_EXTERNAL        what clients on the host are told   localhost:9092
#                               self:PORT: the container's own address, which a Linux host reaches without Docker's proxy
#   EVALX_KAFKA_EXTERNAL_PORT   where the container listens for them  9092
#   EVALX_KAFKA_INTERNAL        what clients in the network are told  kafka:19092
#   EVALX_KAFKA_INTERNAL_PORT   where the container listens for them 19092
#   EVALX_KAFKA_HEAP            JVM flags of the heap            -Xms256m -Xmx512m
#   EVALX_KAFKA_PROPERTIES      more lines for server.properties
set -eu
external=${EVALX_KAFKA_EXTERNAL:-localhost:9092}
external=${external/#self:/$(hostname -i):}
internal=${EVALX_KAFKA_INTERNAL:-kafka:19092}
external_port=${EVALX_KAFKA_EXTERNAL_PORT:-9092}
internal_port=${EVALX_KAFKA_INTERNAL_PORT:-19092}
config=/tmp/server.properties
{
    cat /opt/kafka/server.properties
    echo "listeners=INTERNAL://0.0.0.0:$internal_port,EXTERNAL://0.0.0.0:$external_port,CONTROLLER://127.0.0.1:9093"
    echo "advertised.listeners=INTERNAL://$internal,EXTERNAL://$external"
    printf '%s\n' "${EVALX_KAFKA_PROPERTIES:-}"
} >"$config"

# The class path in a fixed order, because an archive of classes fits only the class path and the collector it was made with.
classpath=$(printf '%s:' /opt/kafka/libs/*.jar)
read -ra heap <<<"${EVALX_KAFKA_HEAP:--Xms256m -Xmx512m}"
# The first compiler only: the second one took half of the broker's CPU in its first minutes, and after 160,000 records
# a broker with it was no faster. EVALX_KAFKA_HEAP comes later and may say -XX:TieredStopAtLevel=4.
java=(java -cp "${classpath%:}" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 --sun-misc-unsafe-memory-access=allow --enable-native-access=ALL-UNNAMED
    -Dlog4j2.configurationFile=/opt/kafka/log4j2.yaml -Dkafka.logs.dir=/tmp
    -Dlog4j.shutdownHookEnabled=false)
formatted=/opt/kafka/formatted
archive=/opt/kafka/kafka.aot

# Used by the image's build: formats a data directory to copy from, and runs the broker once to record its classes.
prepare() {
    local pid
    sed -i "s|^log.dirs=.*|log.dirs=$formatted|" "$config"
    # A fixed id: a random one may begin with "-", which the tool takes for an option.
    "${java[@]}" kafka.tools.StorageTool format -t evalxEvalxEvalxEvalxQA -c "$config"
    cp -r "$formatted" /tmp/run
    sed -i 's|^log.dirs=.*|log.dirs=/tmp/run|' "$config"
    "${java[@]}" "${heap[@]}" -XX:AOTCacheOutput="$archive" kafka.Kafka "$config" &
    pid=$!
    for _ in $(seq 60); do
        sleep 0.5
        ! bash /opt/kafka/health.sh 2>/dev/null || break
    done
    kill "$pid"
    wait "$pid" || true
    [ -s "$archive" ]
}

if [ "${1:-}" = --prepare ]; then
    prepare
    exit
fi
if [ ! -e /var/lib/kafka/data/meta.properties ]; then
    mkdir -p /var/lib/kafka/data
    cp -r "$formatted/." /var/lib/kafka/data/
fi
exec "${java[@]}" "${heap[@]}" -XX:AOTCache="$archive" -XX:+ExitOnOutOfMemoryError kafka.Kafka "$config"
