"""How good retrieval and citations are: on BEIR and SQuAD data sets, and on a user's own questions.

``datasets`` reads questions with their relevant documents and gold spans; ``corpus`` indexes a data set's documents;
``ask`` puts the questions to a pipeline and keeps each stage's order; ``measures`` and ``spans`` score one question;
``report`` and ``comparison`` sum up; ``tuning`` searches for a better config.
"""
