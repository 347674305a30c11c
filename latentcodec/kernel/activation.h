/* The activations of nn/exact/layer.py, for convolution.c and maps.c. */

#ifndef LATENTCODEC_ACTIVATION_H
#define LATENTCODEC_ACTIVATION_H

#include "instructions.h"

#define NARROW_LIMIT 127
#define WIDE_LIMIT 32767

/* As nn/exact/compiled_engine.py numbers them. */
enum activation { CLAMP, WIDE, LEAKY, TENTH };

ALWAYS_INLINE int32_t clamp(int32_t v, int32_t least, int32_t most)
{
    v = v < least ? least : v;
    return v > most ? most : v;
}

/* Loops have the activation as a constant: the switch is outside of them. Shifts of negative numbers round down, as
   they do with every compiler that has these attributes. */
ALWAYS_INLINE int16_t activated(int32_t v, enum activation activation)
{
    int32_t less;
    switch (activation) {
    case WIDE:
        return (int16_t)clamp(v, -WIDE_LIMIT, WIDE_LIMIT);
    case LEAKY:
        less = v >> 3;
        return (int16_t)clamp(v > less ? v : less, -NARROW_LIMIT, NARROW_LIMIT);
    case TENTH:
        v = clamp(v, -1250, NARROW_LIMIT);
        less = (13 * v + 64) >> 7;
        return (int16_t)(v > less ? v : less);
    default:
        return (int16_t)clamp(v, -NARROW_LIMIT, NARROW_LIMIT);
    }
}

#endif
