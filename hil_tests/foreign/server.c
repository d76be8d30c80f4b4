/* A Modbus server on libmodbus, for tests: no line of it is shared with edgeagg.
 *
 *   server tcp PORT                 on 127.0.0.1
 *   server rtu DEVICE BAUD UNIT     8N1
 *
 * Standard input: lines of "FUNCTION REGISTER VALUE" (function 3 or 4, decimal), which it serves;
 * registers behind the last one given are refused. It prints "ready" and serves one connection
 * after the other until it is killed.
 */
#include <errno.h>
#include <modbus.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint16_t image[2][65536];
static int registers[2];

static int fail(const char *what) {
    fprintf(stderr, "server: %s: %s\n", what, modbus_strerror(errno));
    return 1;
}

static void read_image(void) {
    int function, place, value;
    while (scanf("%d %d %d", &function, &place, &value) == 3) {
        image[function == 4][place] = (uint16_t)value;
        if (registers[function == 4] <= place) registers[function == 4] = place + 1;
    }
}

static void serve(modbus_t *bus, modbus_mapping_t *map, int is_tcp) {
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
    for (;;) {
        int length = modbus_receive(bus, query);
        if (length > 0) modbus_reply(bus, query, length, map);
        if (length < 0 && (is_tcp || errno == EIO || errno == ECONNRESET)) return; /* hung up */
    }
}

int main(int count, char **words) {
    int is_tcp = count == 3 && !strcmp(words[1], "tcp");
    if (!is_tcp && count != 5) return fail("tcp PORT or rtu DEVICE BAUD UNIT");
    read_image();
    modbus_t *bus = is_tcp ? modbus_new_tcp("127.0.0.1", atoi(words[2]))
                           : modbus_new_rtu(words[2], atoi(words[3]), 'N', 8, 1);
    modbus_mapping_t *map = modbus_mapping_new(0, 0, registers[0], registers[1]);
    if (!bus || !map) return fail("no memory");
    memcpy(map->tab_registers, image[0], 2 * (size_t)registers[0]);
    memcpy(map->tab_input_registers, image[1], 2 * (size_t)registers[1]);
    /* what is left of a frame it did not want must not begin the next one */
    modbus_set_error_recovery(bus, MODBUS_ERROR_RECOVERY_PROTOCOL);
    modbus_set_response_timeout(bus, 0, 20000);
    int listener = -1;
    if (is_tcp && (listener = modbus_tcp_listen(bus, 1)) < 0) return fail("listen");
    if (!is_tcp && (modbus_set_slave(bus, atoi(words[4])) || modbus_connect(bus)))
        return fail("connect");
    puts("ready");
    fflush(stdout);
    do {
        if (is_tcp && modbus_tcp_accept(bus, &listener) < 0) return fail("accept");
        serve(bus, map, is_tcp);
        close(modbus_get_socket(bus));
    } while (is_tcp);
    return 0;
}
