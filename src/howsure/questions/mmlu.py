"""MMLU's 57 subjects and their four categories, as one table.

Subjects and categories are those of the table of tasks in Hendrycks et al., "Measuring Massive
Multitask Language Understanding" (ICLR 2021, appendix), which Kapoor et al.'s released code uses
too. `categories.py` in Hendrycks' code differs in one subject: it counts anatomy as "Other".
"""

from __future__ import annotations

from collections.abc import Collection

_STEM, _HUMANITIES, _SOCIAL, _OTHER = "STEM", "Humanities", "Social Sciences", "Other"

CATEGORIES: dict[str, str] = {
    "abstract_algebra": _STEM,
    "anatomy": _STEM,
    "astronomy": _STEM,
    "college_biology": _STEM,
    "college_chemistry": _STEM,
    "college_computer_science": _STEM,
    "college_mathematics": _STEM,
    "college_physics": _STEM,
    "computer_security": _STEM,
    "conceptual_physics": _STEM,
    "electrical_engineering": _STEM,
    "elementary_mathematics": _STEM,
    "high_school_biology": _STEM,
    "high_school_chemistry": _STEM,
    "high_school_computer_science": _STEM,
    "high_school_mathematics": _STEM,
    "high_school_physics": _STEM,
    "high_school_statistics": _STEM,
    "machine_learning": _STEM,
    "formal_logic": _HUMANITIES,
    "high_school_european_history": _HUMANITIES,
    "high_school_us_history": _HUMANITIES,
    "high_school_world_history": _HUMANITIES,
    "international_law": _HUMANITIES,
    "jurisprudence": _HUMANITIES,
    "logical_fallacies": _HUMANITIES,
    "moral_disputes": _HUMANITIES,
    "moral_scenarios": _HUMANITIES,
    "philosophy": _HUMANITIES,
    "prehistory": _HUMANITIES,
    "professional_law": _HUMANITIES,
    "world_religions": _HUMANITIES,
    "econometrics": _SOCIAL,
    "high_school_geography": _SOCIAL,
    "high_school_government_and_politics": _SOCIAL,
    "high_school_macroeconomics": _SOCIAL,
    "high_school_microeconomics": _SOCIAL,
    "high_school_psychology": _SOCIAL,
    "human_sexuality": _SOCIAL,
    "professional_psychology": _SOCIAL,
    "public_relations": _SOCIAL,
    "security_studies": _SOCIAL,
    "sociology": _SOCIAL,
    "us_foreign_policy": _SOCIAL,
    "business_ethics": _OTHER,
    "clinical_knowledge": _OTHER,
    "college_medicine": _OTHER,
    "global_facts": _OTHER,
    "human_aging": _OTHER,
    "management": _OTHER,
    "marketing": _OTHER,
    "medical_genetics": _OTHER,
    "miscellaneous": _OTHER,
    "nutrition": _OTHER,
    "professional_accounting": _OTHER,
    "professional_medicine": _OTHER,
    "virology": _OTHER,
}
"""Subject → category, in the order in which pictures show them: by category, then by name."""

SUBJECTS: tuple[str, ...] = tuple(CATEGORIES)


def categories_of(subjects: Collection[str]) -> dict[str, str]:
    """Subject → category in the table's order when all are MMLU's subjects, else empty."""
    if not subjects or not set(subjects) <= CATEGORIES.keys():
        return {}
    return {s: c for s, c in CATEGORIES.items() if s in set(subjects)}
