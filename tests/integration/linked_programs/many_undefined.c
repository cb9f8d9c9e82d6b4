#define TEN(of, n) of(n##0) of(n##1) of(n##2) of(n##3) of(n##4) of(n##5) of(n##6) of(n##7) of(n##8) of(n##9)
#define DECLARE(n) extern int nowhere_##n(void);
#define CALL(n) +nowhere_##n()
TEN(DECLARE, 1) TEN(DECLARE, 2) TEN(DECLARE, 3)

int main(void) { return 0 TEN(CALL, 1) TEN(CALL, 2) TEN(CALL, 3); }
