"""What an agent's rows mean, read without the loop's code.

Whoever reads journals (the command line, tests, an inspector) reads them through here, so that all
of them say the same of a run. The loop writes its rows by the names that stand in `keys`.

==============  ===================================================================================
module          what it tells
==============  ===================================================================================
`keys`          which rows there are, and how they are named
`rows`          what each one says
`result`        what the model was told of a tool call, and of what people said
`request`       what a model call was asked, whole
`mending`       what was mended in it before it was sent
`usage`         what steps used, in tokens and dollars
`totals`        what a journal adds up to
`next_key`      where a run goes on
`undo`          what is undone, and by which row
`accepted`      what people let stand where the code asks for something else
`journal`       a run's journal, without what cannot be read of it
`run`           a run with all that it came to: its answer, or why it has none
`listed`        runs as a list tells of them, without their whole journals
`found`         what an agent had found that gave no whole answer
`waits`         what a run waits for
`questions`     what it, and all below it, ask people
`untaken`       the signals in its inbox that nobody has taken
`suspects`      errors of tools that may be bugs in them
==============  ===================================================================================

Invariants: nothing is written; nothing here imports the loop, nor anybody who words it for people.
"""
