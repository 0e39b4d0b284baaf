#!/usr/bin/env bash
# Makes the demo's recordings: dialogues between an adviser and a client, all of it made up and spoken by a machine.
# Needs espeak-ng, sox and lame on the PATH. Run it in this folder; it overwrites the MP3s here.
#
# Two formats only, both of a constant frame length without padding, so that whole frames can be joined freely:
# `wide` (WhatsApp) is 16 kHz at 24 kbit/s, 108 bytes and 36 ms a frame; `narrow` (PSTN) is 8 kHz at 16 kbit/s, 144 bytes and 72 ms.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

encode() { # encode NAME BAND < wav: no Xing frame (-t) and no ID3 tag, which would be audio of no length in the middle of a join
  local rate=16 kbit=24
  if [ "$2" = narrow ]; then rate=8 kbit=16; fi
  lame --quiet -t -m m --cbr -b $kbit --resample $rate -q 2 - "$1.mp3"
}

voice() { # voice NUMBER: espeak-ng's voice, words a minute and pitch
  case $1 in
    1) echo "-v en-gb+m3 -s 150 -p 38" ;;         # adviser, English
    2) echo "-v en-gb-x-rp+f2 -s 140 -p 62" ;;    # client, English
    3) echo "-v en-us+f4 -s 155 -p 55" ;;         # adviser, English
    4) echo "-v en-gb-scotland+m5 -s 135 -p 30" ;;# client, English
    5) echo "-v hi+f3 -s 140 -p 58" ;;            # Hindi; also reads English words in Devanagari as they are said in India
    6) echo "-v hi+m4 -s 135 -p 35" ;;            # Hindi
  esac
}

dialogue() { # dialogue NAME BAND < lines of "VOICE text"
  local n=0 parts=()
  while read -r who text; do
    n=$((n + 1))
    # shellcheck disable=SC2046 # the options are meant to be split
    espeak-ng $(voice "$who") -w "$work/line.wav" -- "$text"
    sox "$work/line.wav" -r 16000 -c 1 "$work/$n.wav" norm -4 pad 0.1 "0.$((2 + n % 4))"
    parts+=("$work/$n.wav")
  done
  local low=150 high=7000
  if [ "$2" = narrow ]; then low=300 high=3400; fi # what a telephone line lets through
  sox "${parts[@]}" -t wav - highpass $low lowpass $high | encode "$1" "$2"
}

dialogue 01-sip-review wide <<'TEXT'
1 Good morning, this is your adviser from Nilgiri Wealth. Am I speaking with the account holder? This call is recorded.
2 Yes, good morning. Please go ahead.
1 Thank you. I am calling about your monthly plan. It has completed three years this week, and I wanted to review it with you.
2 Has it? I thought it was only two. What is it worth now?
1 You have paid in three lakh sixty thousand rupees. As of yesterday the value is four lakh twenty two thousand.
2 That is good. Should I increase the amount?
1 That depends on your goal. You told us that it is for your daughter's college, in nine years. We can keep the same plan and add two thousand a month.
2 Let me speak to my husband. Please send me the figures on WhatsApp.
1 Certainly. Nothing changes until you confirm in writing.
TEXT

dialogue 02-risk-profile wide <<'TEXT'
3 Hello, I am calling from Nilgiri Wealth. We need to update your risk profile before the order can go through.
4 Again? I filled in that form last year.
3 Yes, it is valid for twelve months. It takes two minutes. First question. If your investment fell by twenty percent in a month, what would you do?
4 I would wait. I do not need this money before twenty thirty two.
3 Noted. And what share of your savings is this investment?
4 About one quarter. The rest is in fixed deposits and some gold.
3 Thank you. Then your profile stays moderate. I must tell you that returns are not guaranteed, and that you should read all documents carefully.
4 I understand. Please place the order.
TEXT

dialogue 03-statement wide <<'TEXT'
2 Hello, I have not received my statement for February.
1 I am sorry about that. May I have the last four digits of your folio, please?
2 Seven, seven, four, one.
1 Thank you. I see that the e mail was returned. The mail box was full. Shall I send it again?
2 Yes please, I have cleared it now.
1 It is on its way. Is there anything else?
2 No, that is all. Thank you.
TEXT

dialogue 04-redemption wide <<'TEXT'
4 I want to redeem fifty thousand from the liquid fund. How long will it take?
3 If I place it before three o'clock today, the money is in your bank account tomorrow morning.
4 Good. Is there any exit load?
3 Not after seven days, and you have held it for five months. There will be some capital gains tax, which you declare with your return.
4 All right. Use the account that ends in two two zero nine.
3 I confirm. Redemption of fifty thousand rupees, liquid fund, to the account ending in two two zero nine. Do I have your consent to place this order?
4 Yes, you have my consent.
3 Thank you. You will receive a message to approve it.
TEXT

dialogue 05-kyc-hindi wide <<'TEXT'
5 नमस्ते, मैं नीलगिरि वेल्थ से बोल रही हूँ। क्या मेरी बात खाता धारक से हो रही है?
6 जी हाँ, बोलिए।
5 सर, आपका के वाई सी इस महीने के अंत में समाप्त हो रहा है। उसके बाद नया निवेश नहीं हो पाएगा।
6 अच्छा, इसके लिए मुझे क्या करना होगा?
5 बस अपना आधार और पैन कार्ड तैयार रखिए। मैं आपको व्हाट्सऐप पर एक लिंक भेज रही हूँ।
6 ठीक है। क्या शाखा में आना पड़ेगा?
5 नहीं सर, सब कुछ घर से हो जाएगा। दस मिनट लगेंगे। किसी को भी अपना ओ टी पी मत बताइए।
6 बहुत अच्छा। लिंक भेज दीजिए, मैं आज शाम को कर लूँगा।
TEXT

dialogue 06-savings-hindi wide <<'TEXT'
6 नमस्कार, मुझे बेटी की पढ़ाई के लिए बचत शुरू करनी है।
5 बहुत अच्छी बात है। बेटी की उम्र कितनी है?
6 अभी सात साल की है। हर महीने पाँच हज़ार रुपये बचा सकता हूँ।
5 तो आपके पास लगभग ग्यारह साल हैं। मैं दो योजनाओं की जानकारी भेजती हूँ। बाज़ार में जोखिम होता है, इसलिए कृपया दस्तावेज़ ध्यान से पढ़िए।
6 जी, पढ़कर आपको फ़ोन करूँगा। धन्यवाद।
TEXT

dialogue 07-hinglish wide <<'TEXT'
5 गुड आफ़्टरनून सर। आई एम कॉलिंग अबाउट योर इन्शुरन्स रिन्यूअल।
6 हाँ, उसका प्रीमियम इस साल क्यों बढ़ गया?
5 सर, आपकी एज ब्रैकेट बदल गई है। बट यू कैन टेक अ टू ईयर प्लान। उसमें टेन परसेंट डिस्काउंट है।
6 ओके। सेंड मी द कोटेशन ऑन ईमेल, प्लीज़।
5 श्योर सर। मैं अभी भेजती हूँ। लास्ट डेट थर्टी फ़र्स्ट मार्च है।
6 थैंक यू। मैं संडे तक बताता हूँ।
TEXT

dialogue 08-wrong-number wide <<'TEXT'
1 Good afternoon. Is that Mister Rao?
2 No, sorry, wrong number.
1 My apologies. Goodbye, madam.
TEXT

dialogue 09-portal-pstn narrow <<'TEXT'
4 Hello, is that customer service? I cannot log in to the portal.
1 Yes, good evening. Do you see an error message?
4 It says that my account is locked.
1 That happens after five wrong passwords. I will send a reset link to your registered mobile number. Please do not read any code to me or to anybody else.
4 I have the link now. One moment. Yes, it works again.
1 Wonderful. Thank you for calling.
TEXT

dialogue 10-address-pstn narrow <<'TEXT'
6 हैलो, मेरा पता बदल गया है। कैसे अपडेट करूँ?
5 नमस्ते। कृपया नया पता और बिजली के बिल की फ़ोटो हमें व्हाट्सऐप पर भेज दीजिए।
6 कितने दिन लगेंगे?
5 तीन कार्य दिवस। पूरा होने पर आपको संदेश मिलेगा।
6 ठीक है, धन्यवाद।
TEXT

# A line on which nobody speaks: mains hum and a little noise near -60 dBFS.
sox -R -n -r 16000 -c 1 -t wav - synth 24 sine 100 synth 24 brownnoise mix vol 0.001 | encode 11-silence wide
