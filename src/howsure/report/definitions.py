"""What each number of the page means, in words for a reader who sees it for the first time."""

DEFINITIONS = (
    (
        "Stated probability (p_correct)",
        "How likely an answer is to be correct, between 0 and 1, as a method states it without "
        "seeing the reference answer.",
    ),
    ("Accuracy", "The share of the model's answers that are correct; no method can change it."),
    (
        "ECE, expected calibration error",
        "Answers are sorted into 10 equally wide bins by their stated probability, the last one "
        "closed at 1.0. In each bin the mean stated probability is compared with the share that "
        "was correct; ECE is the mean difference, weighted by the answers in each bin. 0 is best.",
    ),
    (
        "ECE of the decision",
        'The published definition: an answer counts as "correct" from 0.5 on, the confidence of '
        "that decision is max(p, 1-p), and its bins are compared with how often the decision was "
        "right. Errors at p and at 1-p can cancel in it, so the plain ECE is shown wherever it is "
        "known.",
    ),
    (
        "ECE noise floor",
        "The ECE that a perfectly calibrated estimator with the same probabilities and the same "
        "number of questions shows on average, by chance alone: about 0.1 for 100 questions. An "
        "ECE near its floor is no evidence of miscalibration.",
    ),
    (
        "AUROC",
        "The chance that a correct answer has a higher stated probability than a wrong one, ties "
        "counting half. 1 is best, 0.5 is chance, below 0.5 is worse than chance. It is undefined "
        "where all answers are correct or all are wrong; such subjects are left out of its mean.",
    ),
    (
        "Brier score",
        "The mean squared difference between the stated probability and what happened (1 for "
        "correct, 0 for wrong). 0 is best; always saying 0.5 gives 0.25.",
    ),
    (
        "NLL, negative log-likelihood",
        "The mean of -log of the probability given to what happened, in nats. 0 is best; always "
        "saying 0.5 gives 0.693. It punishes confident errors hardest.",
    ),
    (
        "AURC, area under the risk-coverage curve",
        "Let only the surest answers through, from one to all of them: the mean share of wrong "
        "ones along the way. 0 is best; a random order gives the overall share of wrong answers.",
    ),
    (
        "95% interval",
        "From 1,000 bootstrap resamples of the questions, unless the run says otherwise; it tells "
        "what other questions of the same kind could have given, not what another model would.",
    ),
    ("macro", "The mean over subjects, each counting the same."),
    ("pooled", "All questions together, as if they were one subject."),
    (
        "Temperature scaling",
        "A single number fitted on validation answers that makes all probabilities bolder or "
        "meeker. It keeps their order, so it changes ECE and not AUROC.",
    ),
    (
        "Answer likelihood, Subject prior",
        "The plain baselines: the probability the model gave to its own answer, and the share of "
        "training answers in the subject that were correct.",
    ),
)
