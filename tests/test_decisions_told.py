"""A decision that decides nothing is told what stands, what is waited for, and the command."""

import re

import pytest

from tests.fork import Fork
from tests.test_cli_approvals import HOOKS, asking

BOTH = (
    HOOKS.replace("import Policy,", "import Policy, Tool,")
    + '''
from substrate import Context, durable


@durable
async def confirm(ctx: Context, order: str) -> bool:
    return await ctx.receive("approved", bool)


@tool
async def check(ctx: Context, orders: list[str]) -> str:
    """Have orders confirmed."""
    children = [await ctx.spawn(confirm, order).start() for order in orders]
    return str([await child for child in children])


@tool(effect="idempotent", approve=True)
def pay(order: str, due: str, idempotency_key: str) -> str:
    """Pay."""
    return "paid"


def script(request):
    if not any(isinstance(message, Reply) for message in request.messages):
        text = request.messages[0].parts[0].text
        if "both" in text:
            return say(call("check", orders=["7", "8"]))
        if "due" in text:
            return say(call("pay", order="7", due="2026-12-24"))
        if "colour" in text:
            return say(call("ask_human", question="Which colour?", choices=["red", "blue"]))
        return say(call("refund", order="A-17", cents=4900))
    return say(request.messages[-1].results[0].content)


model = Model("scripted:shop", script=script)
tools = [refund, ask_human(), check, pay]
'''
)


@pytest.fixture
def fork(tmp_path):
    """Provide a fork whose agent asks for approvals, for an answer, and waits for signals."""
    return Fork.make(tmp_path, hooks=BOTH)


def waiting(fork: Fork, run_id: str) -> None:
    """Drive a run until two of its children wait for a signal, and leave it with no worker."""
    fork.start(run_id, "Confirm both.")
    process = fork.open("resume", run_id)
    while fork.do("runs", "--json", "--asking").document["runs"] == []:
        assert process.poll() is None
    process.kill()
    process.communicate()


@pytest.mark.parametrize("by_run", [False, True], ids=["by gate", "by run"])
def test_what_stands(fork, by_run):
    """Who comes second is told who has decided, when and why, by the run's id as by the gate's."""
    gate = asking(fork)
    given = "shop/1" if by_run else gate["gate"]
    assert fork.do("approve", given, "--by", "ann", "--why", "fine").code == 0

    denied = fork.do("deny", given, "--why", "no", "--by", "bob")
    approved = fork.do("approve", given, "--by", "bob")
    again = fork.do("approve", given, "--by", "ann", "--why", "fine")

    stands = rf"gate {gate['gate']} \(refund\(.*\) is approved already by ann over cli: fine, at \d"
    for done in (denied, approved):
        assert done.code == 2
        assert re.search(stands, done.err), done.err
        assert "this decision changes nothing" in done.err
    assert again.code == 0
    assert "already approved by ann" in again.out


def test_an_answer_that_stands(fork):
    """So is who answers second, also once the run has ended."""
    asking(fork, "Which colour?")
    fork.do("answer", "shop/1", "blue", "--by", "ann")
    before = fork.do("answer", "shop/1", "red", "--by", "bob")
    fork.do("resume", "shop/1")
    after = fork.do("answer", "shop/1", "red", "--by", "bob")

    for done in (before, after):
        assert done.code == 2
        assert "is answered already by ann over cli" in done.err


STATES = {
    "another digest": (("approve", "GATE", "--digest", "0000000"), "look at it again"),
    "no such gate": (
        ("approve", "beefbeef"),
        "no gate has the id 'beefbeef', and no run; the open",
    ),
    "no such run": (("deny", "shop/9", "--why", "x"), "no gate has the id 'shop/9', and no run;"),
    "too short": (("approve", "GA"), "is too short: give 4 characters of a gate's short name"),
    "a run that asks nobody": (("approve", "idle"), "run 'idle' asks nobody for a decision"),
    "no such run, to answer": (("answer", "nobody", "x"), "no gate has the id 'nobody'"),
}


@pytest.mark.parametrize("typed, said", STATES.values(), ids=STATES)
def test_the_state_refuses_it(fork, typed, said):
    """What there is does not allow it: exit code 2, and a whole command."""
    gate = asking(fork)
    fork.start("idle", "Pay it back.")
    short = {"GATE": gate["gate"], "GA": gate["gate"][:2]}

    done = fork.do(*(short.get(each, each) for each in typed))

    assert done.code == 2, done.err
    assert said in done.err
    assert ("-m agent approvals" in done.err) is ("open ones" in done.err)
    assert ("open ones" in done.err) is not ("digest" in done.err or "idle" in done.err)
    assert len(fork.do("approvals", "--json").document["gates"]) == 1


KINDS = {
    "approve a question": (("approve", "shop/1"), "answer CODE red"),
    "deny a question": (("deny", "shop/1", "--why", "no"), "answer CODE red"),
}


@pytest.mark.parametrize("typed, command", KINDS.values(), ids=KINDS)
def test_another_kind(fork, typed, command):
    """A yes or a no to a question decides nothing, and the command that answers it is said."""
    gate = asking(fork, "Which colour?")

    done = fork.do(*typed)

    assert done.code == 2
    assert "asks 'Which colour?'; give it an answer: " in done.err
    assert f"-m agent {command}".replace("CODE", gate["gate"][:8]) in done.err
    assert len(fork.do("approvals", "--json").document["gates"]) == 1


def test_words_for_a_call(fork):
    """An answer to a call decides nothing, nor does a signal: the commands that do are said."""
    gate = asking(fork)
    approve = f"-m agent approve {gate['gate'][:8]}"

    answered = fork.do("answer", "shop/1", "yes")
    signalled = fork.do("signal", "shop/1", "approved", "yes")

    assert (answered.code, signalled.code) == (2, 2)
    assert "approve or deny it: " in answered.err
    assert approve in answered.err
    assert "nothing was sent: the run waits for an approval of refund(" in signalled.err
    assert approve in signalled.err
    assert "JSON" not in signalled.err
    assert fork.run("shop/1")["inbox"] == []


@pytest.mark.parametrize("typed", [("approve", "both"), ("deny", "both", "--why", "no")])
def test_a_run_that_waits_for_a_signal(fork, typed):
    """It is said that a signal is waited for, and the very command that sends it."""
    waiting(fork, "both")

    done = fork.do(*typed)

    assert done.code == 2
    child = "'both#tools.0/check.0/confirm.0'"
    assert "waits for no decision, but for a signal: approved: true, false, yes or no" in done.err
    assert f"-m agent signal {child} approved true" in done.err


def test_only_what_is_open(fork):
    """A signal that was sent is asked for no more, though nobody has taken it yet."""
    waiting(fork, "both")
    first, second = (f"both#tools.0/check.0/confirm.{i}" for i in (0, 1))

    fork.do("signal", first, "approved", "true")
    one = fork.do("show", "both")
    fork.do("signal", second, "approved", "true")
    none = fork.do("show", "both")
    done = fork.do("run", "--id", "both")

    assert f"signal '{first}'" not in one.out + one.err
    assert f"signal '{second}' approved true" in one.out + one.err
    assert "answer approved" not in none.out + none.err
    assert (done.code, done.out) == (0, "[True, True]\n"), done.err
    assert "answer approved" not in done.err


def test_rules_alone(fork):
    """`rules` lists the rules, as `rules list` does; what is wrong names the help that helps."""
    asking(fork)
    fork.do("rules", "add", "allow refund where cents < 5")

    assert fork.do("rules").out == fork.do("rules", "list").out != ""
    assert "deny" in fork.do("rules", "--help").out
    wrong = fork.do("rules", "add", "allow")
    assert wrong.code == 2
    assert "-m agent rules add --help" in wrong.err
    assert "-m agent rules list" in fork.do("rules", "remove", "beef").err


TYPES = {
    'allow refund where cents < "5"': "it would let nothing through; write cents < 5\n",
    'allow refund where cents <= "5"': 'cents is a number, which `<=` cannot compare with "5": it',
    'deny refund where cents > "9000"': "it would deny every call; write cents > 9000",
    'deny refund where cents in ["5", "6"]': "cents is a number",
    "allow refund where cents = many": 'cannot compare with "many"',
    "allow refund where cents starts 5": "`starts` takes text",
    'allow refund where cents starts "5"': "cents is a number, which `starts` cannot compare",
    'allow refund where cents has "5"': "cents is a number, which `has` cannot compare",
    "allow refund where order = 7": "order is text, which `=` cannot compare with 7",
    "allow refund where order != 7": '; write order != "7"',
    "allow refund where order < 7": "order is text",
    "allow refund where cents < 5 and order = 7": "order is text",
    "allow check where orders = 7": "orders is a list",
    "ask refund where cents = true": "it would ask about every call",
}


def test_rules_that_could_never_be_judged(fork):
    """A comparison of a text with a number is refused where the tool's types are known."""
    asking(fork)
    for rule, said in TYPES.items():
        done = fork.do("rules", "add", rule)
        assert done.code == 2, (rule, done)
        assert said in done.err, done.err
    assert fork.do("rules", "list", "--json").document["rules"] == []

    for rule in (
        "allow refund where cents < 5.5 and order = A-17",
        'allow refund where cents in [1, 2] and order in ["a", "b"]',
        "deny refund where order = null",
        'allow check where orders has "7"',
        'allow check where orders.0 = "7"',
        'allow pay where due starts "2026"',
        "allow * where cents < many",
    ):
        assert fork.do("rules", "add", rule).code == 0, rule


def test_a_denied_call_in_show(fork):
    """A call that was denied is shown as that, with the effect of its own tool."""
    asking(fork, "Pay what is due.")
    fork.do("deny", "shop/1", "--why", "not again", "--by", "ada")
    fork.do("resume", "shop/1")

    (line,) = re.findall(r"pay\.0 .*", fork.do("show", "shop/1").out)

    assert line.split()[1:3] == ["denied", "idempotent"]
