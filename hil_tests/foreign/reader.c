/* Reads registers with libmodbus' client, for tests: no line of it is shared with edgeagg.
 *
 *   reader tcp PORT UNIT READ...          on 127.0.0.1
 *   reader rtu DEVICE BAUD UNIT READ...   8N1
 *
 * READ is FUNCTION:REGISTER:COUNT, function 3 or 4. Prints one line of decimal registers for each,
 * or the error in words.
 */
#include <errno.h>
#include <modbus.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char *what) {
    fprintf(stderr, "reader: %s: %s\n", what, modbus_strerror(errno));
    return 1;
}

int main(int count, char **words) {
    int is_tcp = count > 4 && !strcmp(words[1], "tcp");
    int next = is_tcp ? 3 : 4;
    if (count <= next + 1) return fail("tcp PORT UNIT READ... or rtu DEVICE BAUD UNIT READ...");
    modbus_t *bus = is_tcp ? modbus_new_tcp("127.0.0.1", atoi(words[2]))
                           : modbus_new_rtu(words[2], atoi(words[3]), 'N', 8, 1);
    if (!bus || modbus_set_slave(bus, atoi(words[next++])) || modbus_connect(bus))
        return fail("connect");
    modbus_set_response_timeout(bus, 2, 0);
    for (; next < count; next++) {
        int function, first, wanted;
        uint16_t found[MODBUS_MAX_READ_REGISTERS];
        if (sscanf(words[next], "%d:%d:%d", &function, &first, &wanted) != 3)
            return fail(words[next]);
        int got = function == 3 ? modbus_read_registers(bus, first, wanted, found)
                                : modbus_read_input_registers(bus, first, wanted, found);
        if (got < 0) printf("%s", modbus_strerror(errno));
        for (int place = 0; place < got; place++) printf("%s%u", place ? " " : "", found[place]);
        putchar('\n');
    }
    modbus_close(bus);
    modbus_free(bus);
    return 0;
}
