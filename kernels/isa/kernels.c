/* The table of kernels of one ISA for one dtype. CMake compiles this file once for each pair, with the ISA's compiler
 * flags: BRISK_ISA is its name, as in isas.h, and BRISK_DOUBLE is 1 for float64.
 *
 * An object exports its table and nothing else: what two objects shared, the linker could take from the one for an ISA
 * that the processor lacks. */
#include "../templates/few_rows_template.h"
#include "../templates/forward_template.h"
#include "../templates/limits_template.h"
#include "../templates/pack_template.h"
#include "../templates/step_template.h"
#include "../templates/update_template.h"

#define BRISK_ISA_OF_NAME(NAME, name, ...) ISA_##name = BRISK_##NAME,
enum { BRISK_ISAS(BRISK_ISA_OF_NAME) };

#define BRISK_JOIN(prefix, isa, suffix) prefix##isa##suffix
#define BRISK_WITH_ISA(prefix, isa, suffix) BRISK_JOIN(prefix, isa, suffix)
#if BRISK_DOUBLE
#define BRISK_TABLE BRISK_WITH_ISA(brisk_, BRISK_ISA, _float64)
#else
#define BRISK_TABLE BRISK_WITH_ISA(brisk_, BRISK_ISA, _float32)
#endif

extern const struct brisk_kernels BRISK_TABLE;
const struct brisk_kernels BRISK_TABLE = {
    .isa = (enum brisk_isa)BRISK_WITH_ISA(ISA_, BRISK_ISA, ),
    .precision = VNNI == 1 || BRISK_TILES ? BRISK_HIGHEST : BRISK_HIGH,
    .size = sizeof(real),
    .vnni = VNNI,
    .panel = NR,
    .rows = LOSS_GRAIN,
    .row_grain = ROW_GRAIN,
    .block = VNNI == 1 ? 0 : MC * NC_PANELS * NR,
#if BRISK_TILES
    .begin = tiles_configure,
    .end = tiles_release,
#else
    .predict_few = predict_few,
#endif
    .pack = pack,
    .unpack = unpack,
    .transpose = transpose,
    .predict = predict,
    .step = step,
    .finite = packed_is_finite,
    .weigh = weigh,
    .add = add,
    .update = update,
    .chain_flops = CHAIN_FLOPS,
    .chains = chains,
    .stream_read = stream_read,
    .stream_triad = stream_triad,
};
