# SPDX-License-Identifier: BSD-3-Clause
"""Finds words that readers of this project's texts stumble over, where users read them: pages and
manual, packaging, string literals of the programs (messages, --help), scripts, the demo.

    words.py EXCEPTIONS <FILES

FILES are paths, one a line, below the current directory. EXCEPTIONS has a line for each place where such a
word is right: PATH, a regular expression that is found in the line, and the reason, with a tab in between. One
that excuses nothing any more is an error. Names and code in `backticks`, C<> and F<>, and comments of
programs and scripts, are not looked at.
"""

import ast
import bisect
import io
import pathlib
import re
import sys

# What is found, and what a native writer says instead. CONTRIBUTING.md has the glossary.
CLAUSE = r"(?:is|are|was|were|has|have|had|can|can't|could|may|must|will|does|did|do|uses|needs|runs|reads|asks)"
WORDS = [(re.compile(pattern.replace(" ", r"\s+"), flags | re.MULTILINE), better)
         for pattern, flags, better in [
    (r"\banswered\b", re.I, "acknowledged (a write); served, replied to (a request)"),
    (r"\banew\b", re.I, "again"),
    (r"\bshall\b", re.I, "should, must or will"),
    (r"\b(?:go|goes|going|gone|went) on\b", re.I, "continue(s), or a verb that says with what"),
    (r"\bby (?:itself|himself|themselves)\b", re.I, "automatically, or on its own"),
    (r"\bwhoever\b", re.I, "anyone who, the client that"),
    # "Who" without somebody before it, not as the question in "shows who is connected".
    (rf"(?:\A|\n\s*\n|[.;:(]\s*|\b(?:only|for|from|of|by|to|with|than|but|except|if|where|when|since|because) )"
     rf"who (?:else )?{CLAUSE}\b", re.I, "anyone who, the client that, the machine that"),
    (rf"\bWho (?:else )?{CLAUSE}\b", 0, "anyone who, the client that, the machine that"),
    (r"\bwhat (?:it|this) is not\b|\bsays what is not\b|\bknows what it is not\b", re.I, "the limits, the problems"),
    (r"[,;] else\b(?! if\b)|[.] Else\b", 0, "otherwise, or"),
    (r"\ball else\b", re.I, "everything else"),
    (r"\bsees? to (?:it|theirs|its)\b", re.I, "makes sure"),
    (r"\bseldom\b", re.I, "rarely; less and less often"),
]]
PROSE = re.compile(r"\.(?:md|pod|toml|spec|service\.in|timer|conf|ufw|xml|table)$"
                   r"|/(?:hooks-README|control|changelog\.in)$")
SPAN = re.compile(r"`[^`\n]*`|\b[CF]<[^<>]*>|\b[CF]<< .*? >>")
# Comments, characters and strings; a raw string's content is the group `raw`, another one's `text`.
TOKEN = re.compile(r"//[^\n]*|/\*.*?\*/|'(?:\\.|[^'\\\n])'"
                   r'|R"(?P<end>[^(\s]*)\((?P<raw>.*?)\)(?P=end)"'
                   r'|"(?P<text>(?:\\.|[^"\\\n])*)"', re.DOTALL)
INCLUDE = re.compile(r"^\s*#\s*include\b.*$", re.MULTILINE)
ESCAPES = {"n": "\n", "t": "\t"}


class Text:
    """Words in a row, and the line of the file from which each part comes."""

    def __init__(self):
        self.content = ""
        self._starts, self._lines = [], []

    def add(self, part, line):
        self._starts.append(len(self.content))
        self._lines.append(line)
        self.content += part

    def line_at(self, offset):
        part = bisect.bisect_right(self._starts, offset) - 1
        return self._lines[part] + self.content.count("\n", self._starts[part], offset)


def blank(match):
    return re.sub(r"[^\n]", " ", match[0])


def prose(source):
    text = Text()
    text.add(SPAN.sub(lambda span: "_" * len(span[0]), source), 1)
    yield text


def script(source):
    """Without comments, and the shell's own "; else"."""
    text = Text()
    text.add(re.sub(r"^\s*#.*$|; else\b", blank, source, flags=re.MULTILINE), 1)
    yield text


def literals(source):
    """String literals of C++; those with nothing in between are one text."""
    source = INCLUDE.sub(blank, source)
    text, end = Text(), 0
    for token in TOKEN.finditer(source):
        if token["raw"] is None and token["text"] is None:
            continue
        if TOKEN.sub("", source[end:token.start()]).strip() and text.content:
            yield text
            text = Text()
        line = source.count("\n", 0, token.start()) + 1
        if token["raw"] is not None:
            text.add(token["raw"], line)
        else:
            # A newline of the message is none of the file.
            text.add(re.sub(r"\\(.)", lambda one: "  " if one[1] in ESCAPES else one[1], token["text"]), line)
        end = token.end()
    if text.content:
        yield text


def constants(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = Text()
            text.add(node.value, node.lineno)
            yield text


def texts(path, source):
    """The texts of a file that users read; none of a file that is for us alone."""
    name, top = str(path), path.parts[0]
    if path.suffix in (".cpp", ".hpp"):
        return literals(source) if top in ("core", "daemon", "plugin", "tools") else ()
    if top not in ("docs", "packaging", "quickstart") and len(path.parts) > 1:
        return ()
    if path.name == "words.list" or name.endswith("stages/words.py"):
        return ()
    if PROSE.search("/" + name):
        return prose(source)
    if path.suffix == ".py":
        return constants(source)
    if path.suffix == ".sh" or source.startswith("#!") and "sh" in source.split("\n", 1)[0]:
        return script(source)
    return ()


def findings(path, source):
    """(line, what stands there, what to say), in order."""
    found = set()
    for text in texts(path, source):
        for pattern, better in WORDS:
            for match in pattern.finditer(text.content):
                shown = match[0].lstrip(" .;:,(\n")
                found.add((text.line_at(match.end() - len(shown)), " ".join(shown.split()), better))
    return sorted(found)


def exceptions(path):
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line and not line.startswith("#"):
            parts = line.split("\t")
            if len(parts) != 3 or not all(parts):
                raise SystemExit(f"{path}:{number}: this is not PATH, expression and reason with tabs in between")
            yield number, parts[0], re.compile(parts[1])


def problems(list_path, paths):
    allowed = list(exceptions(list_path))
    used = set()
    for path in paths:
        try:
            source = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue
        lines = source.split("\n")
        for number, words, better in findings(path, source):
            line = lines[number - 1] if number <= len(lines) else ""
            excuses = {one for one, where, expression in allowed
                       if where == str(path) and expression.search(line)}
            used |= excuses
            if not excuses:
                yield f"{path}:{number}: '{words}': say: {better}\n      {line.strip()}"
    for number, where, expression in allowed:
        if number not in used:
            yield f"{list_path}:{number}: nothing in {where} needs this exception any more: {expression.pattern}"


def main():
    paths = [pathlib.Path(line.strip()) for line in io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8")
             if line.strip()]
    found = list(problems(pathlib.Path(sys.argv[1]), paths))
    for problem in found:
        print(f"   {problem}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
