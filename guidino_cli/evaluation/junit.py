"""Gates and failed cases as JUnit XML, which every CI system shows."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from guidino_cli.evaluation.gates import Verdict
from guidino_cli.evaluation.result import Evaluation


def to_junit(result: Evaluation, verdicts: Sequence[Verdict]) -> str:
    """One test per gate and one that every case has a usable prediction."""
    problems = result.problems()
    failed = [verdict for verdict in verdicts if not verdict.passed]
    numbers = {"tests": str(len(verdicts) + 1), "failures": str(len(failed)), "errors": str(int(bool(problems)))}
    suite = Element("testsuite", {"name": "guidino evaluate"} | numbers)
    usable = SubElement(suite, "testcase", {"classname": "guidino.cases", "name": "every case has a usable prediction"})
    if problems:
        error = SubElement(usable, "error", {"message": f"{len(problems)} of {len(result.cases)} cases failed"})
        error.text = "\n".join(f"{case.pair.truth.case}: {case.note}" for case in problems)
    for verdict in verdicts:
        test = SubElement(suite, "testcase", {"classname": "guidino.gates", "name": verdict.name})
        if not verdict.passed:
            SubElement(test, "failure", {"message": verdict.sentence})
    indent(suite)
    # XML 1.0 has no control characters; file names and messages may.
    text = "".join(sign for sign in tostring(suite, encoding="unicode") if sign >= " " or sign in "\n\t")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'
