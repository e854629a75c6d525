/// Every block format.
#pragma once

#include <cstddef>

#include <tessera/quant/format.hpp>
#include <tessera/quant/formats/group_affine.hpp>
#include <tessera/quant/formats/iq1_m.hpp>
#include <tessera/quant/formats/iq1_s.hpp>
#include <tessera/quant/formats/iq2_s.hpp>
#include <tessera/quant/formats/iq2_xs.hpp>
#include <tessera/quant/formats/iq2_xxs.hpp>
#include <tessera/quant/formats/iq3_s.hpp>
#include <tessera/quant/formats/iq3_xxs.hpp>
#include <tessera/quant/formats/iq4_nl.hpp>
#include <tessera/quant/formats/iq4_xs.hpp>
#include <tessera/quant/formats/mx8.hpp>
#include <tessera/quant/formats/mxfp4.hpp>
#include <tessera/quant/formats/nf4.hpp>
#include <tessera/quant/formats/nvfp4.hpp>
#include <tessera/quant/formats/q1_0.hpp>
#include <tessera/quant/formats/q2_0.hpp>
#include <tessera/quant/formats/q2_k.hpp>
#include <tessera/quant/formats/q3_k.hpp>
#include <tessera/quant/formats/q4_0.hpp>
#include <tessera/quant/formats/q4_1.hpp>
#include <tessera/quant/formats/q4_k.hpp>
#include <tessera/quant/formats/q5_0.hpp>
#include <tessera/quant/formats/q5_1.hpp>
#include <tessera/quant/formats/q5_k.hpp>
#include <tessera/quant/formats/q6_k.hpp>
#include <tessera/quant/formats/q8_0.hpp>
#include <tessera/quant/formats/tq1_0.hpp>
#include <tessera/quant/formats/tq2_0.hpp>
#include <tessera/quant/formats/unit.hpp>

namespace tessera::inline TESSERA_ABI {

template <BlockFormat... F>
struct FormatList {
  static constexpr std::size_t size = sizeof...(F);
};

/// Those that GGUF files hold: the laws of their codecs, with the reference's values, run over them.
using CodecFormats = FormatList<Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ1_S, IQ1_M, IQ2_XXS,
                                IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, IQ4_NL, IQ4_XS, MXFP4, NVFP4, TQ1_0, TQ2_0, Q1_0, Q2_0>;

/// Others, some of each template.
using OtherFormats = FormatList<GroupAffine<8>, GroupAffine<4, 128>, GroupAffine<3>, GroupAffine<2, 32>,
                                GroupAffine<8, 64, false>, GroupAffine<4, 128, false>, GroupAffine<3, 64, false>,
                                GroupAffine<2, 16, false>, NF4, NF4Double<16>, MXFP8_E4M3, MXFP8_E5M2, MXINT8>;

}  // namespace tessera::inline TESSERA_ABI
