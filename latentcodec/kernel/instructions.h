/* Functions that are compiled twice: for every processor of the architecture, and for those with AVX2. The caller
   says which is to run, so that tests can run both; lc_instructions says which can. */

#ifndef LATENTCODEC_INSTRUCTIONS_H
#define LATENTCODEC_INSTRUCTIONS_H

#include <stdint.h>

enum instructions { PORTABLE, AVX2 };

#if defined(__GNUC__)
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#else
#define ALWAYS_INLINE static inline
#endif

#if defined(__GNUC__) && defined(__x86_64__)
#define HAS_AVX2 1
#define FOR_AVX2 __attribute__((target("avx2")))
#else
#define HAS_AVX2 0
#define FOR_AVX2
#endif

/* name_on(instructions, call): an inline function name(call), compiled for each set of instructions. Plain loops gain
   by it: the compiler makes vectors of them. */
#define COMPILED_TWICE(name, type)                                       \
    static void name##_portable(const type *call) { name(call); }        \
    FOR_AVX2 static void name##_avx2(const type *call) { name(call); }   \
    static inline void name##_on(int32_t instructions, const type *call) \
    {                                                                    \
        if (HAS_AVX2 && instructions == AVX2)                            \
            name##_avx2(call);                                           \
        else                                                             \
            name##_portable(call);                                       \
    }

#endif
