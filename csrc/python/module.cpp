// hierpool._C: what needs Python's objects. Nothing depends on it: a wheel that serves every Python is made without it.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <charconv>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace py = pybind11;

namespace {

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

std::string_view strip(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

// The next column of a line, which `rest` then lacks; `more` says whether others follow. White space separates if
// `separator` is 0.
std::string_view next_word(std::string_view& rest, char separator, bool& more) {
  size_t end = 0;
  while (end < rest.size() && (separator ? rest[end] != separator : !is_space(rest[end]))) ++end;
  const std::string_view word = strip(rest.substr(0, end));
  more = end < rest.size();
  rest.remove_prefix(more ? end + 1 : end);
  if (!separator) rest = strip(rest);
  return word;
}

bool read_integer(std::string_view word, int64_t& value) {
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  return error == std::errc() && end == word.data() + word.size();
}

// A decimal number that is finite and not negative.
bool read_weight(std::string_view word, double& value) {
#if defined(__cpp_lib_to_chars)
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  return error == std::errc() && end == word.data() + word.size() && std::isfinite(value) && value >= 0;
#else
  int64_t whole = 0;  // this standard library reads no decimals
  const bool found = read_integer(word, whole) && whole >= 0 && whole < (int64_t{1} << 53);
  value = static_cast<double>(whole);
  return found;
#endif
}

template <typename T>
py::array_t<T> as_array(const std::vector<T>& values) {
  return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

// Sources, targets and weights of the edges in the lines, or nothing if a line is not of the plain form.
py::object read_edges(const py::list& lines, const std::string& separator, int columns, int source,
                      int target, int weight) {
  std::vector<int64_t> sources, targets;
  std::vector<double> weights;
  sources.reserve(lines.size());
  targets.reserve(lines.size());
  const char between = separator.empty() ? '\0' : separator[0];
  for (const py::handle line : lines) {
    Py_ssize_t size = 0;
    const char* characters = PyUnicode_AsUTF8AndSize(line.ptr(), &size);
    if (characters == nullptr) throw py::error_already_set();
    std::string_view rest = strip({characters, static_cast<size_t>(size)});
    if (rest.empty() || rest.front() == '#' || rest.front() == '%') continue;
    if (rest.find_first_of("#\"") != std::string_view::npos) return py::none();
    int64_t ends[2] = {0, 0};
    double value = 0;
    int column = 0;
    for (bool more = true; more; ++column) {
      const std::string_view word = next_word(rest, between, more);
      if (column == source && !read_integer(word, ends[0])) return py::none();
      if (column == target && !read_integer(word, ends[1])) return py::none();
      if (column == weight && !read_weight(word, value)) return py::none();
    }
    if (column != columns) return py::none();
    sources.push_back(ends[0]);
    targets.push_back(ends[1]);
    if (weight >= 0) weights.push_back(value);
  }
  if (weight < 0) return py::make_tuple(as_array(sources), as_array(targets));
  return py::make_tuple(as_array(sources), as_array(targets), as_array(weights));
}

}  // namespace

PYBIND11_MODULE(_C, module) {
  module.doc() = "What hierpool does with Python's objects in C++.";
  module.def(
      "read_edges", &read_edges, py::arg("lines"), py::arg("separator"), py::arg("columns"),
      py::arg("source"), py::arg("target"), py::arg("weight"),
      "Read an edge from every line but empty ones and comments, which start with # or %.\n\n"
      "Columns are counted from 0; `separator` is one character, or empty for white space; `weight` is -1 "
      "if\n"
      "there is none. Returns arrays of int64, int64 and float64, or None if a line has another number of\n"
      "columns, quotation marks, an id that is not written as a 64-bit integer, or a weight that is not "
      "finite\n"
      "or negative.");
}
