#include "kernel.h"

LC_EXPORT int32_t lc_abi(void)
{
    return LC_ABI;
}
