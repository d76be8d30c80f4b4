/* The transfer of batches between one gateway and D platforms: docs/delivery-protocol.md.
 *
 * Describes: the outbox and its epochs (edgeagg_agent/outbox.py), the sender and what it believes of
 * a receipt (edgeagg_agent/uplink.py), the inbox and its store (edgeagg/receiver/inbox.py).
 *
 * A batch is a content: a number nobody else has. It lies in the outbox under (epoch, sequence).
 * Messages on the way are sets, so any of them may overtake any other. At most F faults of any kind
 * happen, at any time, in any order. Time-outs are not faults: a sender may send anything that is
 * not receipted again at any time. The order of receipts by the platform's clock is left out too:
 * a sender forgets it when it stalls, so everything here must hold without it.
 *
 * Parameters: D platforms, N sequences in an epoch, C contents, F faults, UP and DOWN messages on
 * the way to and from each platform. ROLLBACK, RESTORE, FULL, LOSE_STORE, POWER, CRASH, NET switch
 * kinds of faults off with 0. BUG_... breaks one rule on purpose.
 */
#ifndef D
#define D 2
#endif
#ifndef N
#define N 3
#endif
#ifndef C
#define C 3
#endif
#ifndef F
#define F 2
#endif
#ifndef UP
#define UP 1
#endif
#ifndef DOWN
#define DOWN 1
#endif
#ifndef ROLLBACK
#define ROLLBACK 1
#endif
#ifndef RESTORE
#define RESTORE 1
#endif
#ifndef FULL
#define FULL 1
#endif
#ifndef LOSE_STORE
#define LOSE_STORE 1
#endif
#ifndef POWER
#define POWER 1
#endif
#ifndef CRASH
#define CRASH 1
#endif
#ifndef NET
#define NET 1
#endif

/* Two limits of the rules. A state directory is put back by hand, so no message of the life before
   is still on the way when the copy starts. LATE lifts that: it holds, but for the word that a batch
   is lost, which is the same for any content. And its disk does not fill up before a platform has
   answered: of a batch that is gone nobody can tell whether it is the one that the platform has
   under its number (LIMIT_FULL lifts that). */
#ifdef LIMIT_FULL
#define FULL_ALLOWED 1
#else
#define FULL_ALLOWED (!replaced || epoch == 1)
#endif

#define BIT(n) (1 << (n))
#define HAS(set, n) (((set) >> (n)) & 1)
#define HOLDS(d, e, s) holds[((d) * 2 + (e)) * N + (s) - 1]
#define EFFECTS(d, e, s) effects[((d) * 2 + (e)) * N + (s) - 1]

/* a message up: present, epoch, sequence (0: a hello), content, "no longer kept" */
#define UPWARD(e, s, c, gone) (128 + (e) * 64 + (gone) * 256 + (s) * 8 + (c))
#define EPOCH_OF(m) (((m) >> 6) & 1)
#define SEQUENCE_OF(m) (((m) >> 3) & 7)
#define VALUE_OF(m) (((m) & 7) + (((m) >> 8) & 1) * 8)
/* a receipt: present, epoch, the value under the last sequence (its check), the sequences held, and
   the one that it answers with the value under that; 0: a hello */
#define DOWNWARD(e, set, check, s, v) \
	(4096 + (e) * 2048 + (set) * 16 + (check) + (s) * 8192 + (v) * 65536)
#define RECEIPT_TOLD(r) (((r) >> 13) & 7)
#define RECEIPT_TOLD_VALUE(r) (((r) >> 16) & 15)
#define RECEIPT_EPOCH(r) (((r) >> 11) & 1)
#define RECEIPT_SET(r) (((r) >> 4) & 127)
#define RECEIPT_CHECK(r) ((r) & 15)

/* the gateway's disk */
bit epoch;              /* 0, then 1: a store is lost or replaced once */
byte head, first = 1;   /* the last sequence, the first that is still kept */
byte box[N];            /* contents; of sequences before `first` only the proof knows */
byte cursor[D];         /* not synced: a power cut may bring an older one back */
/* the gateway's memory */
byte known[D];          /* the sequences of the last receipt, as a set, as far as sure */
byte sure[D];           /* those that were compared */
bit greeted[D];         /* a receipt came on this connection */
/* the platforms' disks: 0, a content, or 8 + a content: declared lost */
byte holds[D * 2 * N];
/* the network */
short up[D * UP];
int down[D * DOWN];
/* what only the proof knows */
byte created, faults;
bit replaced;           /* the state directory was put back from an older copy */
byte ever[D];           /* contents that a platform has committed once */
byte declared[D];       /* contents that a platform has committed as lost */
byte effects[D * 2 * N];
#ifdef BUG_SEND_BEFORE_COMMIT
byte synced;
#endif
#ifdef BUG_NEVER_AGAIN
byte sent[D];
#endif

hidden byte a, b, i, j, last, set, through, value, room;
hidden short m;
hidden int r;

inline through_of(sequences) {
	through = 0;
	do
	:: through < N && HAS(sequences, through + 1) -> through++
	:: else -> break
	od
}

inline last_of(sequences) {
	last = N;
	do
	:: last > 0 && !HAS(sequences, last) -> last--
	:: else -> break
	od
}

/* what the gateway takes for delivered was committed there, the same content, or declared lost */
inline check_claims(d) {
	j = 1;
	do
	:: j <= head ->
		assert(!HAS(known[d], j) || HAS(ever[d] | declared[d], box[j - 1]));
		j++
	:: else -> break
	od
}

inline post_up(d, message) {
	i = 0; room = UP;
	do
	:: i < UP ->
		if
		:: up[(d) * UP + i] == message -> room = UP; break /* a second copy is the same set */
		:: up[(d) * UP + i] == 0 && room == UP -> room = i; i++
		:: else -> i++
		fi
	:: else -> break
	od;
	if
	:: room < UP -> up[(d) * UP + room] = message
	:: else
	fi
}

inline post_down(d, receipt) {
	i = 0; room = DOWN;
	do
	:: i < DOWN ->
		if
		:: down[(d) * DOWN + i] == receipt -> room = DOWN; break
		:: down[(d) * DOWN + i] == 0 && room == DOWN -> room = i; i++
		:: else -> i++
		fi
	:: else -> break
	od;
	if
	:: room < DOWN -> down[(d) * DOWN + room] = receipt
	:: else /* the broker's queue is full: it drops it */
	fi
}

inline answer(d, e, extra, told) {
	j = 1; set = 0; value = 0;
	do
	:: j <= N ->
		if
		:: HOLDS(d, e, j) -> set = set | BIT(j); value = HOLDS(d, e, j)
		:: else
		fi;
		j++
	:: else -> break
	od;
	set = set | (extra);
	if
	:: told > 0 -> r = DOWNWARD(e, set, value, told, HOLDS(d, e, told))
	:: else -> r = DOWNWARD(e, set, value, 0, 0)
	fi;
	post_down(d, r)
}

/* the process begins again with what its disk has */
inline restart() {
#ifdef BUG_SEND_BEFORE_COMMIT
	do
	:: head > synced -> head--; box[head] = 0
	:: else -> break
	od;
#endif
	i = 0;
	do
	:: i < D ->
		known[i] = 0; greeted[i] = 0; j = 1;
#ifdef BUG_NEVER_AGAIN
		sent[i] = 0;
#endif
		do
		:: j <= cursor[i] -> known[i] = known[i] | BIT(j); j++
		:: else -> break
		od;
		sure[i] = known[i];
		i++
	:: else -> break
	od
}

inline forget_box(from) {
	j = from;
	do
	:: j < N -> box[j] = 0; j++
	:: else -> break
	od
}

/* everything that not all platforms have goes on in a new epoch, under new numbers */
inline leave_epoch() {
	i = 1; last = N;
#ifdef BUG_CARRY_FEWER
	last = 0;
#endif
	a = 0;
	do
	:: a < D ->
		through_of(known[a]);
#ifdef BUG_CARRY_FEWER
		last = (through > last -> through : last);
#else
		last = (through < last -> through : last);
#endif
		a++
	:: else -> break
	od;
	/* a content that is left behind is committed everywhere, or declared */
	j = 1;
	do
#ifdef BUG_CARRY_KEPT_ONLY
	:: j <= head && (j <= last || j < first) ->
#else
	:: j <= head && j <= last ->
#endif
		a = 0;
		do
		:: a < D -> assert(HAS(ever[a] | declared[a], box[j - 1])); a++
		:: else -> break
		od;
		j++
	:: else -> break
	od;
#ifdef BUG_CARRY_KEPT_ONLY
	last = (first > last + 1 -> first - 1 : last);
#endif
	j = last;
	do
	:: j < head -> box[j - last] = box[j]; j++
	:: else -> break
	od;
	head = (head > last -> head - last : 0);
	forget_box(head);
	epoch = 1;
	first = (first > last -> first - last : 1);
#ifdef BUG_SEND_BEFORE_COMMIT
	synced = head;
#endif
	i = 0;
	do
	:: i < D -> cursor[i] = 0; i++
	:: else -> break
	od;
	restart()
}

inline take(d, receipt) {
	r = receipt;
	set = RECEIPT_SET(r);
	last_of(set);
	value = RECEIPT_TOLD(r);
	if
	:: RECEIPT_EPOCH(r) != epoch /* of a former life */
#ifndef BUG_NO_ALARM
	:: RECEIPT_EPOCH(r) == epoch &&
#ifdef BUG_COMPARE_HEADS
	   last > head ->
		assert(replaced);
#else
	   (last > head || (last >= first && RECEIPT_CHECK(r) != box[last - 1])
#ifndef BUG_CHECK_THE_LAST_ONLY
	    || (value >= first && value > 0 && RECEIPT_TOLD_VALUE(r) < 8 &&
	        RECEIPT_TOLD_VALUE(r) != 0 && RECEIPT_TOLD_VALUE(r) != box[value - 1])
#endif
	   ) ->
		assert(replaced); /* no false alarm */
		leave_epoch()
#endif
#endif
	:: else ->
#ifndef BUG_CHECK_THE_LAST_ONLY
		sure[d] = (sure[d] | BIT(last) | BIT(value)) & set;
		set = sure[d];
#endif
		through_of(set);
#ifdef BUG_ONLY_FORWARD
		if
		:: through >= cursor[d] -> known[d] = set; cursor[d] = through
		:: else
		fi;
#else
		known[d] = set; cursor[d] = through;
#endif
		greeted[d] = 1;
#ifdef BUG_NEVER_AGAIN
		sent[d] = sent[d] & ~set;
#endif
		check_claims(d)
	fi
}

proctype Gateway() {
end:	do
	:: atomic { created < C && head < N ->
		created++; box[head] = created; head++ }
#ifdef BUG_SEND_BEFORE_COMMIT
	:: atomic { synced < head -> synced = head }
#endif
	:: atomic { FULL && FULL_ALLOWED && faults < F && first <= head -> faults++; first++ }
	:: atomic { CRASH && faults < F -> faults++; restart() }
	:: atomic { POWER && faults < F ->
		faults++; b = 0;
		do
		:: b < D ->
			if
			:: cursor[b] = 0
			:: skip
			fi;
			b++
		:: else -> break
		od;
		restart() }
	:: atomic { LOSE_STORE && faults < F && epoch == 0 ->
		faults++; head = 0; first = 1; b = 0;
#ifndef BUG_SAME_EPOCH
		epoch = 1;
#endif
#ifdef BUG_SEND_BEFORE_COMMIT
		synced = 0;
#endif
		forget_box(0);
		do
		:: b < D -> cursor[b] = 0; b++
		:: else -> break
		od;
		restart() }
	:: atomic { ROLLBACK && faults < F && epoch == 0 && !replaced && head > 0 ->
		faults++; replaced = 1;
		do
		:: head > 0 -> head--; if :: break :: skip fi
		:: else -> break
		od;
		if
		:: first = 1
		:: first <= head + 1
		fi;
#ifdef BUG_SEND_BEFORE_COMMIT
		synced = head;
#endif
		forget_box(head);
#ifndef LATE
		b = 0;
		do
		:: b < D * UP -> up[b] = 0; b++
		:: else -> break
		od;
		b = 0;
		do
		:: b < D * DOWN -> down[b] = 0; b++
		:: else -> break
		od;
#endif
		b = 0;
		do
		:: b < D -> cursor[b] = (cursor[b] > head -> head : cursor[b]); b++
		:: else -> break
		od;
		restart() }
	od
}

#ifdef BUG_NEVER_AGAIN
#define MISSING(d, s) ((s) <= N && (s) <= head && !HAS(known[d] | sent[d], s))
#else
#define MISSING(d, s) ((s) <= N && (s) <= head && !HAS(known[d], s))
#endif
#define MISSING_ANY(d) (MISSING(d, 1) || MISSING(d, 2) || MISSING(d, 3) || MISSING(d, 4))
#define QUIET(d) (up[(d) * UP] == 0 && down[(d) * DOWN] == 0)
#define ROOM(d) (up[(d) * UP] == 0 || up[(d) * UP + UP - 1] == 0)

/* A connection begins: ask what is there. A greeted gateway asks again when nothing is left to do:
   that stands for its next batch, since one that never ends has always a next one. */
proctype Hello(byte d) {
end:	do
	:: atomic { ROOM(d) && (!greeted[d] || (QUIET(d) && !MISSING_ANY(d))) ->
		m = UPWARD(epoch, 0, 0, 0); post_up(d, m) }
	od
}

inline send(d, s) {
#ifdef BUG_LOST_UNSAID
	if
	:: s < first -> known[d] = known[d] | BIT(s); check_claims(d)
	:: else -> m = UPWARD(epoch, s, box[s - 1], 0); post_up(d, m)
	fi;
#else
	m = UPWARD(epoch, s, box[s - 1], (s < first -> 1 : 0)); post_up(d, m);
#endif
#ifdef BUG_NEVER_AGAIN
	sent[d] = sent[d] | BIT(s);
#endif
#ifdef BUG_TRUST_THE_BROKER
	known[d] = known[d] | BIT(s); check_claims(d)
#endif
}

#ifdef BUG_NO_GREETING
#define MAY_SEND(d, s) (ROOM(d) && MISSING(d, s))
#else
#define MAY_SEND(d, s) (greeted[d] && ROOM(d) && MISSING(d, s))
#endif

proctype Sender(byte d) {
end:	do
	:: atomic { MAY_SEND(d, 1) -> send(d, 1) }
	:: atomic { MAY_SEND(d, 2) -> send(d, 2) }
#if N > 2
	:: atomic { MAY_SEND(d, 3) -> send(d, 3) }
#endif
#if N > 3
	:: atomic { MAY_SEND(d, 4) -> send(d, 4) }
#endif
	od
}

proctype Listener(byte d) {
end:	do
	:: atomic { down[d * DOWN] || down[d * DOWN + DOWN - 1] ->
		i = 0;
		do
		:: i < DOWN && down[d * DOWN + i] == 0 -> i++
		:: i < DOWN - 1 && down[d * DOWN + i] && down[d * DOWN + i + 1] -> i++
		:: i < DOWN && down[d * DOWN + i] -> break
		od;
		r = down[d * DOWN + i];
		if
		:: NET && faults < F -> faults++ /* it comes once more */
		:: down[d * DOWN + i] = 0
		fi;
		take(d, r) }
	od
}

proctype Platform(byte d) {
end:	do
	:: atomic { up[d * UP] || up[d * UP + UP - 1] ->
		i = 0;
		do
		:: i < UP && up[d * UP + i] == 0 -> i++
		:: i < UP - 1 && up[d * UP + i] && up[d * UP + i + 1] -> i++
		:: i < UP && up[d * UP + i] -> break
		od;
		m = up[d * UP + i];
		if
		:: NET && faults < F -> faults++
		:: up[d * UP + i] = 0
		fi;
		a = EPOCH_OF(m); b = SEQUENCE_OF(m);
		if
		:: b == 0 -> answer(d, a, 0, 0)
#ifdef BUG_ANSWER_FIRST
		:: b > 0 && CRASH && faults < F -> faults++; answer(d, a, BIT(b), 0)
#endif
		:: b > 0 ->
			if
			:: HOLDS(d, a, b) == 0 ->
				HOLDS(d, a, b) = VALUE_OF(m); EFFECTS(d, a, b)++
#ifdef BUG_EVERY_COPY_COUNTS
			:: HOLDS(d, a, b) == VALUE_OF(m) -> EFFECTS(d, a, b)++
#endif
#ifdef BUG_LAST_WINS
			:: HOLDS(d, a, b) != 0 && HOLDS(d, a, b) != VALUE_OF(m) ->
				HOLDS(d, a, b) = VALUE_OF(m); EFFECTS(d, a, b)++
#endif
#ifdef BUG_LATE_DATA_IS_A_FORK
			:: HOLDS(d, a, b) != 0 && HOLDS(d, a, b) != VALUE_OF(m) && VALUE_OF(m) < 8 ->
#else
			:: HOLDS(d, a, b) != 0 && HOLDS(d, a, b) != VALUE_OF(m) && VALUE_OF(m) < 8 &&
			   HOLDS(d, a, b) != VALUE_OF(m) + 8 ->
#endif
				assert(replaced) /* other bytes: quarantine and a fork alarm, never for nothing */
			:: else /* the same again, or on one side the word that it is lost */
			fi;
			assert(EFFECTS(d, a, b) == 1);
			if
			:: HOLDS(d, a, b) == VALUE_OF(m) && VALUE_OF(m) < 8 ->
				ever[d] = ever[d] | BIT(VALUE_OF(m))
			:: HOLDS(d, a, b) == VALUE_OF(m) && VALUE_OF(m) > 8 ->
				declared[d] = declared[d] | BIT(VALUE_OF(m) - 8)
			:: else
			fi;
			answer(d, a, 0, b)
		fi }
	:: atomic { RESTORE && faults < F -> /* from a backup: any commit may be undone, or all */
		faults++; a = 0;
		do
		:: a < 2 * N ->
			if
			:: holds[d * 2 * N + a] = 0; effects[d * 2 * N + a] = 0
			:: skip
			fi;
			a++
		:: else -> break
		od }
	od
}

proctype Network() {
end:	do
	:: atomic { NET && faults < F ->
		b = 0;
		do
		:: b < D * UP - 1 -> if :: break :: b++ fi
		:: else -> break
		od;
		if
		:: up[b] -> up[b] = 0; faults++
		:: else
		fi }
	:: atomic { NET && faults < F ->
		b = 0;
		do
		:: b < D * DOWN - 1 -> if :: break :: b++ fi
		:: else -> break
		od;
		if
		:: down[b] -> down[b] = 0; faults++
		:: else
		fi }
	od
}

init {
	atomic {
		run Gateway(); run Network();
		i = 0;
		do
		:: i < D -> run Hello(i); run Sender(i); run Listener(i); run Platform(i); i++
		:: else -> break
		od
	}
}

#define ALL_CUT (created == C || head == N)
#define WHOLE(d) (known[d] == BIT(head + 1) - 2)
#if D == 1
#define ARRIVED WHOLE(0)
#else
#define ARRIVED (WHOLE(0) && WHOLE(1))
#endif
/* faults end: then every platform has, and every cursor covers, all up to the head, for good */
#ifdef LIVENESS
ltl arrives { <>[] (ALL_CUT && ARRIVED) }
#endif
