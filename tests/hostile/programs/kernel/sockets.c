/* Every family of sockets, everything worth connecting to, and local sockets of others. */
#include <arpa/inet.h>
#include <netinet/in.h>

static const char *unix_paths[] = {
    "/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock", "/run/dbus/system_bus_socket",
    "/run/systemd/private", "/dev/log", "/run/podman/podman.sock", "/proc/1/root/run/docker.sock",
};

static long connect_to(const char *address, int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, address, &to.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return fd < 0 ? -1 : connect(fd, (struct sockaddr *)&to, sizeof to);
}

static long connect_path(const char *path, int abstract) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    strncpy(to.sun_path + abstract, path, sizeof to.sun_path - 2);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)abstract + strlen(path));
    return fd < 0 ? -1 : connect(fd, (struct sockaddr *)&to, size);
}

static void families(void) {
    static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_RDM, SOCK_PACKET};
    char name[64];
    for (int family = 0; family < 64; family++)
        for (size_t type = 0; family != AF_UNIX && type < sizeof types / sizeof *types; type++) {
            int pair[2];
            snprintf(name, sizeof name, "family-%d-%d", family, types[type]);
            TRY(name, socket(family, types[type], 0));
            snprintf(name, sizeof name, "pair-%d-%d", family, types[type]);
            TRY(name, socketpair(family, types[type], 0, pair));
        }
    /* The kernel takes an int: the upper half of the register must not hide the family. */
    TRY("family-high", syscall(SYS_socket, 1ul << 32 | AF_INET, SOCK_STREAM, 0));
    TRY("family-mptcp", socket(AF_INET, SOCK_STREAM, 262));
}

int main(void) {
    families();
    TRY("redis", connect_to("127.0.0.1", 6379));
    TRY("redis-bridge", connect_to("172.17.0.1", 6379));
    TRY("kafka", connect_to("127.0.0.1", 9092));
    TRY("docker-tcp", connect_to("172.17.0.1", 2375));
    TRY("metadata", connect_to("169.254.169.254", 80));
    for (size_t i = 0; i < sizeof unix_paths / sizeof *unix_paths; i++)
        TRY(unix_paths[i], connect_path(unix_paths[i], 0));
    TRY("abstract", connect_path("evalx-left-behind", 1));
    puts("end");
}
