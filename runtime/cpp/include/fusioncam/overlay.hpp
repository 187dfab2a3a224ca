// Maps laid over photos: the picture of Python's runtime.picture.overlay in its style "heat".
#ifndef FUSIONCAM_OVERLAY_HPP
#define FUSIONCAM_OVERLAY_HPP

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "error.hpp"
#include "picture.hpp"

namespace fusioncam {

/// The colours (RGB) of a map from 0 to 1.
using Colors = std::array<std::array<std::uint8_t, 3>, 256>;

namespace detail {

/// The colours of `plasma`, six hexadecimal digits each, as OpenCV and matplotlib have them.
inline constexpr const char *PLASMA =
    "0d088710078813078916078a19068c1b068d1d068e20068f2206902406912605912805922a05932c05942e05952f0596"
    "31059733059735049837049938049a3a049a3c049b3e049c3f049c41049d43039e44039e46039f48039f4903a04b03a1"
    "4c02a14e02a25002a25102a35302a35502a45601a45801a45901a55b01a55c01a65e01a66001a66100a76300a76400a7"
    "6600a76700a86900a86a00a86c00a86e00a86f00a87100a87201a87401a87501a87701a87801a87a02a87b02a87d03a8"
    "7e03a88004a88104a78305a78405a78606a68707a68808a68a09a58b0aa58d0ba58e0ca48f0da4910ea3920fa39410a2"
    "9511a19613a19814a099159f9a169f9c179e9d189d9e199da01a9ca11b9ba21d9aa31e9aa51f99a62098a72197a82296"
    "aa2395ab2494ac2694ad2793ae2892b02991b12a90b22b8fb32c8eb42e8db52f8cb6308bb7318ab83289ba3388bb3488"
    "bc3587bd3786be3885bf3984c03a83c13b82c23c81c33d80c43e7fc5407ec6417dc7427cc8437bc9447aca457acb4679"
    "cc4778cc4977cd4a76ce4b75cf4c74d04d73d14e72d24f71d35171d45270d5536fd5546ed6556dd7566cd8576bd9586a"
    "da5a6ada5b69db5c68dc5d67dd5e66de5f65de6164df6263e06363e16462e26561e26660e3685fe4695ee56a5de56b5d"
    "e66c5ce76e5be76f5ae87059e97158e97257ea7457eb7556eb7655ec7754ed7953ed7a52ee7b51ef7c51ef7e50f07f4f"
    "f0804ef1814df1834cf2844bf3854bf3874af48849f48948f58b47f58c46f68d45f68f44f79044f79143f79342f89441"
    "f89540f9973ff9983ef99a3efa9b3dfa9c3cfa9e3bfb9f3afba139fba238fca338fca537fca636fca835fca934fdab33"
    "fdac33fdae32fdaf31fdb130fdb22ffdb42ffdb52efeb72dfeb82cfeba2cfebb2bfebd2afebe2afec029fdc229fdc328"
    "fdc527fdc627fdc827fdca26fdcb26fccd25fcce25fcd025fcd225fbd324fbd524fbd724fad824fada24f9dc24f9dd25"
    "f8df25f8e125f7e225f7e425f6e626f6e826f5e926f5eb27f4ed27f3ee27f3f027f2f227f1f426f1f525f0f724f0f921";

} // namespace detail

/// The default: its brightness steps are even, and none of its colours is common in photos.
/// Others come from OpenCV, see `color_table` in fusioncam/opencv.hpp.
inline const Colors &plasma() {
    static const Colors colors = [] {
        const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
        Colors table{};
        const char *at = detail::PLASMA;
        for (auto &color : table) {
            for (std::uint8_t &channel : color) {
                channel = static_cast<std::uint8_t>(16 * digit(at[0]) + digit(at[1]));
                at += 2;
            }
        }
        return table;
    }();
    return colors;
}

/// Lays a map over a photo. Opacity grows with saliency, so that the photo stays visible where nothing is salient; its
/// own colours are muted first, or a red bird would look like evidence.
///
/// `saliency` has the photo's size (Explanation::on_photo) and values in [0, 1], where NaN counts as 0. `opacity` is
/// that of the colours where saliency is 0.4 or more, in [0, 1]. Throws UsageError where one of these does not hold.
inline Photo overlay(const PhotoView &photo, const Saliency &saliency, const Colors &colors = plasma(),
                     double opacity = 0.7) {
    if (!(opacity >= 0 && opacity <= 1)) {
        throw UsageError("opacity must be a number from 0 to 1");
    }
    const std::size_t pixels = photo.size.height * photo.size.width;
    if (saliency.size != photo.size || saliency.values.size() != pixels) {
        throw UsageError("a map of " + saliency.size.text() + " cannot be laid over a photo of " + photo.size.text() +
                         ": bring it to the photo's size first, with on_photo");
    }
    Photo result{photo.size, std::vector<std::uint8_t>(3 * pixels)};
    for (std::size_t i = 0; i < pixels; ++i) {
        const float given = saliency.values[i];
        const float value = std::isnan(given) ? 0.0F : std::clamp(given, 0.0F, 1.0F);
        const auto &color = colors[static_cast<std::size_t>(std::nearbyint(value * 255.0F))];
        const float alpha = static_cast<float>(opacity) * std::min(2.5F * value, 1.0F);
        const std::uint8_t *from = photo.rgb + 3 * i;
        const int grey = (9798 * from[0] + 19235 * from[1] + 3735 * from[2] + (1 << 14)) >> 15; // as OpenCV has it
        for (std::size_t c = 0; c < 3; ++c) {
            const auto muted = static_cast<float>((7 * from[c] + 13 * grey + 10) / 20);
            const float painted = muted + alpha * (static_cast<float>(color[c]) - muted);
            result.rgb[3 * i + c] = static_cast<std::uint8_t>(std::nearbyint(painted));
        }
    }
    return result;
}

} // namespace fusioncam

#endif
