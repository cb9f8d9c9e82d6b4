"""The messages of the contract: submissions in, results out.

`decode_submission` is the only way in: what it returns is complete and within every rule. `encode_result` after
`fit_result` is the only way out.
"""

from evalx.messages.decode import (
    LARGEST_LIMITS,
    LanguageRule,
    Rules,
    decode_strictly,
    decode_submission,
    normalise,
    peek_id,
)
from evalx.messages.fit import encode_fitting, fit_result
from evalx.messages.result import (
    CompileReport,
    Encoding,
    ErrorInfo,
    Result,
    Source,
    Status,
    TestResult,
    decode_result,
    encode_result,
    judge_error_result,
    rejected_result,
    text_or_base64,
)
from evalx.messages.submission import (
    CacheMode,
    Checker,
    CheckerKind,
    ExactChecker,
    FloatsChecker,
    Limits,
    LinesChecker,
    ReturnOutput,
    Submission,
    TestCase,
    TokensChecker,
    content_hash,
    encode_submission,
    make_checker,
)

__all__ = [
    "LARGEST_LIMITS",
    "CacheMode",
    "Checker",
    "CheckerKind",
    "CompileReport",
    "Encoding",
    "ErrorInfo",
    "ExactChecker",
    "FloatsChecker",
    "LanguageRule",
    "Limits",
    "LinesChecker",
    "Result",
    "ReturnOutput",
    "Rules",
    "Source",
    "Status",
    "Submission",
    "TestCase",
    "TestResult",
    "TokensChecker",
    "content_hash",
    "decode_result",
    "decode_strictly",
    "decode_submission",
    "encode_fitting",
    "encode_result",
    "encode_submission",
    "fit_result",
    "judge_error_result",
    "make_checker",
    "normalise",
    "peek_id",
    "rejected_result",
    "text_or_base64",
]
