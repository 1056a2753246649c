# SPDX-License-Identifier: BSD-3-Clause
"""A person at a node who reads `next` in its status and does what it says, word by word.

Commands of mirrorctl are typed as they are printed. What is to be done beside mirrorctl ("start
mirrord on beta") is known by its exact words, and done where the situation has it in its gift.
"""

import re
import time

from lib import machine_time

START_HERE = "start it: systemctl start mirrord"

# "on beta: mirrorctl connect r0", "mirrorctl promote r0 on beta"; the command ends where the
# sentence goes on.
COMMAND = re.compile(
    r"(?:\bon (?P<before>alpha|beta): )?mirrorctl (?P<verb>[a-z-]+)(?P<rest>(?: in-sync| NODE"
    r"| --?[a-z-]+| [a-z0-9][\w/]*)*)")
PLACE = re.compile(r" on (alpha|beta)$")
STARTED = re.compile(r"start mirrord on (alpha|beta)\b")
SHOWS_ONLY = {"status", "events", "check", "keygen"}


class Stuck(AssertionError):
    """What `next` says leads nowhere."""


def commands(text):
    """(node's name or None, words) of each command in a sentence, in its order."""
    found = []
    for match in COMMAND.finditer(text):
        rest, node = match["rest"], match["before"]
        if place := PLACE.search(rest):
            rest, node = rest[:place.start()], place[1]
        words = []
        for word in rest.split():
            if word in ("then", "and", "on", "shows", "if", "or", "here", "once", "finishes", "tries"):
                break
            words.append(word)
        found.append((node, [match["verb"], *words]))
    return found


class Person:
    """`gifts`: what this person can do beside mirrorctl: {exact words: what that does}; each once.

    `keep`: the node whose data this person decides for, where `next` asks for a decision.
    `takes_loss`: this person accepts the loss that `promote --force --dry-run` names.
    """

    MOST = 6
    PATIENCE = 12.0  # seconds without a change
    MOMENT = 1.0

    def __init__(self, cluster, looks_at, gifts=None, keep=None, takes_loss=False):
        self.cluster = cluster
        self.node = looks_at
        self.gifts = dict(gifts or {})
        self.keep = keep
        self.takes_loss = takes_loss
        self.done = []
        self.story = []
        self.prices = []

    def look(self):
        """(state, why, next, exit code); of a node without mirrord, what mirrorctl says."""
        outcome = self.node.ctl("status", "r0", "--json", check=False)
        if outcome.code == 3 and "volumes" not in outcome.out:
            return "unknown", outcome.err, outcome.err, 3
        volume = outcome.json["volumes"][0]
        return volume["state"], volume["why"], volume["next"], outcome.code

    def is_over(self):
        return all(node.is_running() and node.ctl("status", "r0", check=False).code == 0
                   for node in self.cluster.nodes)

    def settle(self, before):
        """Waits until it says something else than before, and stays with that for a moment; or
        nothing changes for long. What is seen then."""
        deadline = machine_time.now() + self.PATIENCE
        seen, since = self.look(), machine_time.now()
        while not self.is_over() and machine_time.now() < deadline:
            is_news = seen[2] != before and not seen[2].startswith("nothing")
            if is_news and machine_time.now() - since >= self.MOMENT:
                break
            time.sleep(0.15)
            again = self.look()
            if again[2] != seen[2]:
                since = machine_time.now()
            seen = again
        return seen

    def walk(self):
        """To both nodes in sync with one active; raises Stuck with the story."""
        seen = self.settle("")
        for _ in range(self.MOST):
            if self.is_over():
                return self
            self.story.append(f"{self.node.name} says {seen[0]}: {seen[1]}\n    next: {seen[2]}")
            self.follow(seen[2])
            seen = self.settle(seen[2])
        if self.is_over():
            return self
        self.story.append(f"{self.node.name} says {seen[0]}: {seen[1]}\n    next: {seen[2]}")
        raise Stuck("\n".join(self.story) + "\n" + self.cluster.logs())

    def follow(self, text):
        for words in list(self.gifts):
            if words in text:
                self.story.append(f"    did: {words}")
                self.gifts.pop(words)()
                self.done.append(words)
                return
        runs = STARTED.search(text)
        is_done = (runs and getattr(self.cluster, runs[1]).is_running()
                   or any(words in text for words in self.done))
        typed = [(node, words) for node, words in commands(text) if words[0] not in SHOWS_ONLY]
        if is_done and ", then mirrorctl " in text:
            self.type(*typed[0])  # the first half is done
            return
        if text.startswith("nothing") or is_done:
            self.story.append("    that is so already: waits")
            return
        if START_HERE in text:
            self.story.append("    did: " + START_HERE)
            self.node.start()
            return
        if not typed:
            looked = [node for node, words in commands(text) if words[0] == "status" and node]
            if looked and looked[0] != self.node.name:
                self.story.append(f"    looks at {looked[0]}")
                self.node = getattr(self.cluster, looked[0])
                return
            if any(words[0] == "check" for _, words in commands(text)):
                # Shows the problem, or that it is over; a walk that only looks ends nowhere.
                for node in self.cluster.nodes:
                    self.run(node, ["check"])
                return
            raise Stuck("\n".join([*self.story, "    there is nothing to type or to do"]))
        self.type(*typed[0])

    def type(self, name, words):
        node = getattr(self.cluster, name) if name else self.node
        if words[0] == "wait":
            words = [*words, "--timeout", "10s"]
        if "NODE" in words:
            self.decide_for_a_node(node, words)
            return
        outcome = self.run(node, words)
        if "--dry-run" in words:
            self.decide(node, words, outcome)
        elif outcome.code == 1:
            self.follow_refusal(node, words, outcome.err)

    def follow_refusal(self, node, words, said):
        """A refusal names what would be accepted."""
        if f"mirrorctl {' '.join(words)} --yes" in said:
            self.prices.append(said)  # it was told what is lost
            self.run(node, [*words, "--yes"])
            return
        for name, others in commands(said):
            if others[0] not in SHOWS_ONLY and others != words:
                self.type(name or node.name, others)
                return

    def run(self, node, words):
        outcome = node.ctl(*words, check=False, confirm=False, timeout=40)
        said = (outcome.out + outcome.err).strip().replace("\n", "\n        ")
        self.story.append(f"    typed on {node.name}: mirrorctl {' '.join(words)} → "
                          f"{outcome.code}: {said}")
        return outcome

    def decide_for_a_node(self, node, words):
        """As it stands: once for each node, to see both prices; then for one of them."""
        if self.keep is None:
            raise Stuck("\n".join([*self.story, "    a decision is asked for that is none"]))
        for other in self.cluster.nodes:
            shown = self.run(node, [other.name if word == "NODE" else word for word in words])
            assert "loss:" in shown.out, "\n".join(self.story)
            self.prices.append(shown.out)
        chosen = [self.keep if word == "NODE" else word for word in words if word != "--dry-run"]
        self.run(node, [*chosen, "--yes"])

    def decide(self, node, words, shown):
        if not self.takes_loss:
            raise Stuck("\n".join([*self.story, "    a loss is to be taken where there is none"]))
        assert shown.code == 0 and "loss:" in shown.out, "\n".join(self.story)
        self.prices.append(shown.out)
        self.run(node, [*(word for word in words if word != "--dry-run"), "--yes"])
