// Vectors in NumPy's files (.npy), such as the reference of a likeness.
#ifndef FUSIONCAM_NPY_HPP
#define FUSIONCAM_NPY_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <regex>
#include <string>
#include <vector>

#include "error.hpp"
#include "file.hpp"

namespace fusioncam {
namespace detail {

/// Numbers of one type, from bytes, as float32.
template <typename Number> std::vector<float> as_floats(const std::uint8_t *from, std::size_t count) {
    std::vector<Number> values(count);
    if (count) {
        std::memcpy(values.data(), from, count * sizeof(Number));
    }
    return {values.begin(), values.end()};
}

} // namespace detail

/// The vector in a .npy file: float32 or float64, little-endian, of shape (D,) or (1, D). Throws UsageError otherwise, and
/// ImageError where there is no such file, or it may not be read.
inline std::vector<float> read_vector(const std::filesystem::path &path) {
    constexpr std::size_t MAGIC = 8, LONGEST = 1000; // the name of the format and its version; of a header
    const std::vector<std::uint8_t> data = detail::read_file(path);
    const std::string name = detail::quoted(detail::path_text(path));
    const std::size_t start = data.size() > 6 && data[6] == 1 ? MAGIC + 2 : MAGIC + 4; // version 1 has a shorter length
    std::size_t length = 0;
    for (std::size_t i = std::min(start, data.size()); i > MAGIC; --i) {
        length = length << 8 | data[i - 1];
    }
    const std::string said(data.begin(), data.begin() + static_cast<std::ptrdiff_t>(std::min(MAGIC, data.size())));
    if (said.compare(0, 6, "\x93NUMPY") != 0 || length > LONGEST || start + length > data.size()) {
        throw UsageError(name + " is no NumPy array: save the vector with numpy.save");
    }
    const std::string header(data.begin() + static_cast<std::ptrdiff_t>(start),
                             data.begin() + static_cast<std::ptrdiff_t>(start + length));
    static const std::regex vector_of_floats(R"('descr': '<f([48])'.*'shape': \((?:1, )?([0-9]{1,9}),?\))");
    std::smatch found;
    if (!std::regex_search(header, found, vector_of_floats)) {
        throw UsageError(name + " holds no vector of numbers: save float32 or float64 of shape (D,)");
    }
    const std::size_t width = found[1] == "4" ? 4 : 8, count = std::stoul(found[2]);
    if (data.size() - start - length != count * width) {
        throw UsageError(name + " is cut short, or longer than it says: save the vector again");
    }
    const std::uint8_t *const from = data.data() + start + length;
    return width == 4 ? detail::as_floats<float>(from, count) : detail::as_floats<double>(from, count);
}

} // namespace fusioncam

#endif
