// The first process of a container that others are executed in: it waits to be killed.
#include <unistd.h>

int main(void) {
    for (;;) pause();
}
