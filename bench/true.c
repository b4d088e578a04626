// What the measured containers run: nothing.
int main(void) { return 0; }
