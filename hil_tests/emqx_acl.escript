#!/usr/bin/env escript
%% Reads an EMQX rule file as EMQX does, file:consult/1, and decides questions by it as EMQX 5.4.1 and
%% 5.8.9 do: the first rule that fits decides; a filter that is asked for fits a rule's filter level by
%% level; a name is put into a topic as it is, which EMQX from 6.3 on refuses for one with + or #.
%%
%%     escript emqx_acl.escript FILE < QUESTIONS
%%
%% A question is a line USER ACTION TOPIC; the answer is the same line behind "allow" or "deny".

main([File]) ->
    {ok, Rules} = file:consult(File),
    answer(Rules).

answer(Rules) ->
    case io:get_line("") of
        eof ->
            ok;
        Line ->
            [User, Action, Topic] = string:split(string:trim(Line), " ", all),
            Verdict = decide(User, list_to_atom(Action), words(Topic), Rules),
            io:format("~s ~s ~s ~s~n", [Verdict, User, Action, Topic]),
            answer(Rules)
    end.

decide(_, _, _, []) ->
    deny;
decide(User, Action, Topic, [Rule | Rules]) ->
    case fits(User, Action, Topic, Rule) of
        true -> element(1, Rule);
        false -> decide(User, Action, Topic, Rules)
    end.

fits(_, _, _, {_, all}) ->
    true;
fits(User, Action, Topic, {_, Who, What, Topics}) ->
    who(User, Who) andalso what(Action, What) andalso in(User, Topic, Topics).

who(_, all) -> true;
who(User, {username, {re, Pattern}}) -> re:run(User, Pattern) =/= nomatch;
who(User, {username, Name}) -> User =:= Name.

what(_, all) -> true;
what(Action, Action) when Action =:= publish; Action =:= subscribe -> true;
what(_, Other) when Other =:= publish; Other =:= subscribe -> false.

%% EMQX takes the word all for a rule's topics from 5.8.9 on; one before that does not start.
in(User, Topic, Topics) when is_list(Topics) ->
    lists:any(fun(Filter) -> filter(User, Topic, Filter) end, Topics).

filter(User, Topic, Filter) ->
    Named = string:replace(Filter, "${username}", User, all),
    match(Topic, words(lists:flatten(Named))).

match([], []) -> true;
match(_, ["#"]) -> true;
match([_ | Topic], ["+" | Filter]) -> match(Topic, Filter);
match([Word | Topic], [Word | Filter]) -> match(Topic, Filter);
match(_, _) -> false.

words(Topic) ->
    string:split(Topic, "/", all).
