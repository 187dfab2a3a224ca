// What can go wrong. The classes and their texts are those of Python's fusioncam.errors.
#ifndef FUSIONCAM_ERROR_HPP
#define FUSIONCAM_ERROR_HPP

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

namespace fusioncam {

/// Base of every error of fusioncam; thrown itself where the model cannot run. Python's FusionCamError.
struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// A request that cannot be met as it was put: a class out of range, no such map or colour map.
struct UsageError : Error {
    using Error::Error;
};

/// A bundle or graph is missing, damaged, of another version, or none of fusioncam's.
struct BundleError : Error {
    using Error::Error;
};

/// A picture cannot be read, or an array has the wrong shape or content.
struct ImageError : Error {
    using Error::Error;
};

/// The model gives NaN or infinity for a picture.
struct NotFiniteError : Error {
    using Error::Error;
};

/// A picture cannot be written where it was asked for.
struct OutputError : Error {
    using Error::Error;
};

/// A call was ended before it was done, by its run options.
struct DeadlineError : Error {
    using Error::Error;
};

namespace detail {

/// A path as text, in UTF-8; std::u8string of C++20 apart.
inline std::string path_text(const std::filesystem::path &path) {
    const auto text = path.u8string();
    return {text.begin(), text.end()};
}

/// A text in quotes, as Python's repr has it.
inline std::string quoted(const std::string &text) {
    const bool has_single = text.find('\'') != std::string::npos;
    const char quote = has_single && text.find('"') == std::string::npos ? '"' : '\'';
    std::string result(1, quote);
    for (const char c : text) {
        const auto code = static_cast<unsigned char>(c);
        if (c == quote || c == '\\') {
            result += {'\\', c};
        } else if (c == '\n' || c == '\r' || c == '\t') {
            result += {'\\', c == '\n' ? 'n' : c == '\r' ? 'r' : 't'};
        } else if (code < 0x20 || code == 0x7f) {
            char escape[5];
            std::snprintf(escape, sizeof escape, "\\x%02x", static_cast<unsigned>(code));
            result += escape;
        } else {
            result += c;
        }
    }
    return result + quote;
}

/// A number with commas between its thousands.
inline std::string thousands(std::uint64_t number) {
    const std::string digits = std::to_string(number);
    std::string result;
    for (std::size_t i = 0; i < digits.size(); ++i) {
        if (i && (digits.size() - i) % 3 == 0) {
            result += ',';
        }
        result += digits[i];
    }
    return result;
}

/// A shape as Python prints a tuple: (3, 24, 32), (5,), ().
template <typename Integer> std::string shape_text(const std::vector<Integer> &shape) {
    std::string result = "(";
    for (std::size_t i = 0; i < shape.size(); ++i) {
        result += (i ? ", " : "") + std::to_string(shape[i]);
    }
    return result + (shape.size() == 1 ? ",)" : ")");
}

/// The first line that says something, blanks around it left out.
inline std::string first_line(const std::string &text) {
    const char *const blanks = " \t\r\n\v\f";
    const std::size_t begin = text.find_first_not_of(blanks);
    if (begin == std::string::npos) {
        return "unknown error";
    }
    const std::string line = text.substr(begin, text.find_first_of("\r\n", begin) - begin);
    return line.substr(0, line.find_last_not_of(blanks) + 1);
}

} // namespace detail
} // namespace fusioncam

#endif
